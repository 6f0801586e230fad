"""Everything that funcrl takes from torch's inside: the interfaces that no release promises to keep.

Tracing and compiling go around torch.compile's front end and straight to its back end, which starts
several times faster. What that needs is gathered here, one function an interface, so that a new torch
breaks here or nowhere; `tests/core/test_internals.py` has a test for each that names what broke.
Where the way round does not work, `compile_graph` takes the public one, `torch.compile`, which is
slower to start, and says so once.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.fx import Graph, GraphModule
from torch.utils._python_dispatch import TorchDispatchMode as DispatchMode

__all__ = [
    "BatchAxes",
    "CompilerError",
    "DispatchMode",
    "Generated",
    "Written",
    "batch_axes",
    "batching_rule",
    "call_natively",
    "compile_graph",
    "compiler_settings",
    "composite",
    "decompositions",
    "entry_address",
    "fake_tensors",
    "graph_module",
    "handles",
    "is_about_numbers",
    "keeps_programs",
    "library",
    "load_library",
    "look_alike",
    "made_by_torch",
    "pytree",
    "reads_a_number",
    "returns_new_memory",
    "warm_up",
    "watch_compiler",
]

Program = Callable[[list[Tensor]], Sequence[Tensor]]
"""A compiled graph: takes a list of tensors, which it empties, and returns those that are not donated."""


class CompilerError(RuntimeError):
    """There is no C++ compiler, which torch's compiler needs on a CPU."""


_OPTIONS: dict[str, Any] = {
    # Storing intermediate results earlier compiles several times faster and runs as fast.
    "realize_opcount_threshold": 8,
}

_CPU_OPTIONS: dict[str, Any] = {
    # One C++ file a program, wrapper included: a third of the compiler's start-ups, and shorter calls.
    "cpp_wrapper": True,
    # That the wrapper is compiled apart from the loops, with less optimisation: a third of the C++ compiler's time.
    "cpp_wrapper_build_separate": True,
    # Debugging symbols, which nobody reads and the compiler writes for a tenth of its time.
    "aot_inductor.enable_frame_pointer": False,
    "aot_inductor.enable_line_tables": False,
    # `_torch_for_all`: to read the names of all that torch has was four fifths of the linker's time.
    "aot_inductor.link_libtorch": False,
    # `store` keeps them, under a name that says which functions of `native.cpp` they call.
    "fx_graph_cache": False,
}

_ENTRY = "inductor_entry_cpp"
"""Name of the function that the compiler writes into a library."""

_ENTRY_IN_CPP = "_Z19inductor_entry_implPP16AtenTensorOpaqueS1_"
"""Name of the function that it calls: `inductor_entry_impl(AtenTensorOpaque**, AtenTensorOpaque**)`."""


def fake_tensors() -> tuple[Any, Callable[[Tensor, torch.device], Tensor]]:
    """Return a mode in which torch's tensors have no numbers, and what makes one of a tensor of the meta device and a device.

    Each thread has its own: what it is about is a state that threads must not share. To make one reads the sources of all that
    has called it, which took a sixth of the time that recording takes.
    """
    if not hasattr(_FAKE, "found"):
        from torch._subclasses import FakeTensor, FakeTensorMode

        mode = FakeTensorMode(allow_non_fake_inputs=True)
        _FAKE.found = mode, functools.partial(FakeTensor, mode)
    found: tuple[Any, Callable[[Tensor, torch.device], Tensor]] = _FAKE.found
    return found


_FAKE = threading.local()


def is_about_numbers(function: Any, error: Exception) -> bool:
    """Tell whether an operation on tensors without numbers failed because they have none, and not because it is wrong."""
    unknown = type(error).__name__ in ("DynamicOutputShapeException", "UnsupportedOperatorException")
    return (
        unknown or isinstance(error, NotImplementedError) or torch.Tag.dynamic_output_shape in function.tags
    )


def _with_fake_tensors(graph: GraphModule) -> Any:
    """Let the values of a graph be what torch's compiler has for tensors without numbers; return their mode."""
    from torch._subclasses import FakeTensor, FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    def fake(x: Any) -> Any:
        if isinstance(x, (list, tuple)):
            return [fake(part) for part in x]
        return FakeTensor(mode, x.twin, x.device) if hasattr(x, "twin") else x

    found = (node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder")
    modes = [value.fake_mode for value in found if isinstance(value, FakeTensor)]
    # Without a ShapeEnv torch would not use its cache on the disk.
    mode = modes[0] if modes else FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    for node in graph.graph.nodes:
        if "val" in node.meta:
            node.meta["val"] = fake(node.meta["val"])
    return mode


@functools.cache
def composite(function: Any) -> Callable[..., Any] | None:
    """Return what an operation is made of, where it is nothing but others on every device; else None."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    made_of_others = has(function.name(), torch._C.DispatchKey.CompositeImplicitAutograd)
    of_its_own = any(has(function.name(), getattr(torch._C.DispatchKey, key)) for key in ("CPU", "CUDA"))
    return function.decompose if made_of_others and not of_its_own else None


@functools.cache
def reads_a_number(function: Any) -> bool:
    """Tell whether an operation returns a number of a tensor, as `item` does."""
    return torch.Tag.data_dependent_output in function.tags


@functools.cache
def returns_new_memory(function: Any) -> bool:
    """Tell whether an operation neither writes into what it is given nor returns a view of it."""
    return all(argument.alias_info is None for argument in function._schema.arguments)


def graph_module(root: torch.nn.Module, graph: Graph) -> GraphModule:
    """Return a graph as a module; its Python code is not written before it is called, which few are."""
    try:
        from torch.fx._lazy_graph_module import _LazyGraphModule
    except ImportError:
        return GraphModule(root, graph)
    return _LazyGraphModule(root, graph)


def made_by_torch(
    function: Callable[..., Any], examples: Sequence[Tensor], rules: dict[Any, Any] | None
) -> GraphModule:
    """Return the graph of a function by torch's own tracer; as `recording.record`, slower, with all that torch can."""
    from torch.fx.experimental.proxy_tensor import make_fx

    trace = make_fx(function, rules, tracing_mode="fake", _allow_non_fake_inputs=True)
    return trace(*[example.detach() for example in examples])


def look_alike(tensors: Sequence[Tensor]) -> Callable[..., bool]:
    """Return a function that tells whether as many tensors have shapes, strides, dtypes and devices of these.

    A no may be wrong, as for tensors with a gradient to come; a yes is not. Where this torch has no
    quick way to tell, it always says no.
    """
    try:
        from torch._C._dynamo.guards import TensorGuards

        sizes: list[Any] = [list(x.shape) for x in tensors]
        strides: list[Any] = [list(x.stride()) for x in tensors]
        guards = TensorGuards(*tensors, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides)
        check: Callable[..., bool] = guards.check
    except (ImportError, AttributeError, TypeError, RuntimeError):
        return lambda *others: False
    return check


@dataclass(frozen=True)
class BatchAxes:
    """What `torch.vmap` is made of."""

    enter: Callable[[int, str], int]
    """from the length of an axis, and what random numbers are to do, to its level"""
    leave: Callable[[], Any]
    """the innermost axis"""
    add: Callable[[Tensor, int, int], Tensor]
    """from a tensor, an axis and a level to one in which the axis is not seen"""
    remove: Callable[[Tensor, int, int, int], Tensor]
    """from a tensor, a level, the length of the axis and its place to one in which it is"""


@functools.cache
def batch_axes() -> BatchAxes | None:
    """Return the functions beneath `torch.vmap`; None where this torch has others."""
    torch.vmap(torch.neg)(torch.zeros(1, dtype=torch.float32, device="cpu"))  # which loads what it needs once
    inside = getattr(torch._C, "_functorch", None)
    names = ("_vmap_increment_nesting", "_vmap_decrement_nesting", "_add_batch_dim", "_remove_batch_dim")
    found: list[Any] = [getattr(inside, name, None) for name in names]
    return None if None in found else BatchAxes(*found)


Rule = Callable[..., tuple[Any, Any]]
"""As `torch.library.register_vmap` takes it: from sizes, axes and arguments to the result and its axis."""


def batching_rule(operator: Callable[..., Any], rule: Rule) -> Callable[..., Any] | None:
    """Return what `torch.library.register_vmap` would make of a rule, several times faster.

    Args:
        operator: Of tensors and numbers to a tensor.
        rule: For it.

    Returns:
        What the dispatcher is to be given with its keys; None where this torch has other functions.
    """
    inside = getattr(torch._C, "_functorch", None)
    found: list[Any] = [getattr(inside, name, None) for name in ("peek_interpreter_stack", "_unwrap_batched")]
    axes = batch_axes()
    if None in found or axes is None:
        return None
    from torch._functorch.autograd_function import VmapInfo

    (stack, unwrap), add = found, axes.add
    batched = torch._C.DispatchKeySet(torch._C.DispatchKey.FuncTorchBatched)

    def apply(keys: Any, *args: Any) -> Any:
        level = stack().level()
        pairs = [unwrap(x, level) if isinstance(x, Tensor) else (x, None) for x in args]
        sizes = [x.shape[axis] for x, axis in pairs if axis is not None]
        with torch._C._ExcludeDispatchKeyGuard(batched):
            if not sizes:
                return operator(*args)
            result, axis = rule(
                VmapInfo(sizes[0], "error"), [axis for _, axis in pairs], *[x for x, _ in pairs]
            )
        return add(result, axis, level)

    return apply


@functools.cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return how torch's compiler writes operations in terms of simpler ones."""
    from torch._inductor.decomposition import select_decomp_table

    return dict(select_decomp_table())


@functools.cache
def warm_up() -> None:
    """Import the compiler, a second's work that the processes which compile side by side then share."""
    with contextlib.suppress(ImportError):
        import torch._inductor.compile_fx
        import torch._inductor.lowering
        import torch._inductor.scheduler  # noqa: F401


def keeps_programs() -> bool:
    """Return whether the compiler keeps on the disk what it has compiled, as it does unless told otherwise."""
    try:
        from torch._inductor import config

        return bool(config.fx_graph_cache and not config.force_disable_caches)
    except (ImportError, AttributeError):
        return False


def compiler_settings() -> str:
    """Return all settings of the compiler, those of the user's included, as a text to compare."""
    from torch._inductor import config

    settings = config.save_config_portable(ignore_private_configs=False)
    return repr((sorted(settings.items()), _OPTIONS, _CPU_OPTIONS, _STRIDED))


def library(program: Program) -> Path | None:
    """Return the file of a compiled program that is all in one C++ library; None for any other."""
    entry = getattr(program, "inductor_entry", None) or getattr(program, "__globals__", {}).get(
        "inductor_entry"
    )
    file = getattr(getattr(entry, "__self__", None), "__file__", None)
    return Path(file) if file else None


def entry_address(program: Program) -> int | None:
    """Return where a compiled program begins in its C++ library; None where it has none, or begins otherwise.

    What begins there takes an array of handles of tensors, which it then owns, and one to write those
    of its outputs into; it lets Python's lock go, which the caller must hold.
    """
    path = library(program)
    function = getattr(ctypes.CDLL(str(path)), _ENTRY_IN_CPP, None) if path else None
    return ctypes.cast(function, ctypes.c_void_p).value if function else None


def handles(tensors: Sequence[Tensor]) -> list[int]:
    """Return handles of tensors, as the C interface of torch takes them; they keep the tensors alive."""
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return [address(x, None) for x in torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(list(tensors))]


@functools.cache
def _torch_for_all() -> bool:
    """Let libraries that are loaded from now on find torch's functions by their names; return whether they do.

    Then a program needs not be linked with torch's libraries, all of whose names the linker would read.
    """
    if sys.platform != "linux":
        return False
    try:
        ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def load_library(path: Path) -> Program:
    """Load a compiled program from its C++ library, without the compiler.

    Raises:
        ImportError: When it is not one, or one for another torch or Python.
    """
    _torch_for_all()
    handles_of = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors
    tensors_of = torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs
    address = torch._C._dynamo.guards._torchinductor_pyobject_tensor_data_ptr  # type: ignore[attr-defined]
    os.environ["_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"] = str(address)
    spec = importlib.util.spec_from_file_location(f"{path.stem}.{_ENTRY}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no library")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entry = getattr(module, _ENTRY)

    def program(leaves: list[Tensor]) -> Sequence[Tensor]:
        handles = handles_of(leaves)
        leaves.clear()
        return tensors_of(entry(handles))

    program.inductor_entry = entry  # type: ignore[attr-defined]
    return program


@contextlib.contextmanager
def _replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let a function of torch's be another one in this context."""
    before = vars(owner)[name]  # as it stands there: getattr would bind it
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def _quick_checks(folder: Path | None) -> Iterator[None]:
    """Remember in a folder what the C++ compiler can do for this processor, which is asked in every process.

    The compiler is asked about each set of vector instructions, by a program a question, the widest
    set first; one that can do that can do the narrower ones, AVX2 too where it is AVX-512. Where this
    torch asks in another way, it asks as it likes.
    """
    try:
        from torch._inductor import config
        from torch._inductor.cpu_vec_isa import VecISA, _get_isa_dry_compile_fingerprint

        ask = VecISA.check_build
    except (ImportError, AttributeError):
        yield
        return
    widest: set[str] = set()

    def check_build(isa: VecISA, code: str) -> bool:
        instructions = set(str(isa).split())
        if instructions < widest or (instructions == {"avx2"} and "avx512" in widest):
            return True
        question = _get_isa_dry_compile_fingerprint(isa.build_arch_flags()) + code
        path = folder / f"processor-{hashlib.sha256(question.encode()).hexdigest()[:16]}" if folder else None
        # What it builds is loaded in a process without torch: it has to be linked with torch.
        with config.patch(_known({"aot_inductor.link_libtorch": True})):
            answer = (path is not None and path.exists()) or ask(isa, code)
        if answer:
            widest.update(instructions)
            if path:
                with contextlib.suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
        return answer

    with _replaced(VecISA, "check_build", check_build):
        yield


@contextlib.contextmanager
def _quick_headers(folder: Path | None) -> Iterator[None]:
    """Remember in a folder where torch's precompiled headers are, which it looks for in every process.

    For that it lets the compiler read each header with all that it includes, a quarter of the time that
    a small program takes. Here they are those of this torch and this compiler, until they are gone.
    Where this torch has none, nothing is remembered.
    """
    try:
        from torch._inductor import codecache
        from torch._inductor.cpu_vec_isa import _get_isa_dry_compile_fingerprint

        precompile = codecache._precompile_header
    except (ImportError, AttributeError):
        yield
        return

    def precompile_header(header: str, hashable_cmd_line: str, **command: Any) -> str:
        if folder is None:
            return precompile(header, hashable_cmd_line, **command)
        compiler = _get_isa_dry_compile_fingerprint(hashable_cmd_line)
        question = repr((header, compiler, torch.version.git_version, os.stat(torch.__file__).st_mtime_ns))
        path = folder / f"header-{hashlib.sha256(question.encode()).hexdigest()[:16]}"
        with contextlib.suppress(OSError):
            found = path.read_text(encoding="utf-8")
            if any(os.path.exists(found + ending) for ending in (".gch", ".pch")):
                return found
        found = precompile(header, hashable_cmd_line, **command)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found, encoding="utf-8")
        return found

    with _replaced(codecache, "_precompile_header", precompile_header):
        yield


@contextlib.contextmanager
def _writes_wait_for_reads() -> Iterator[None]:
    """Keep what torch before 2.12 forgets: that a write into an input waits for calls that read the input.

    There, fitting a loop to others that it is fused with finds its dependencies anew from its body,
    which knows nothing of them; a copy of the old value then got the new one.
    """
    if tuple(int(x) for x in torch.__version__.split(".")[:2]) >= (2, 12):
        yield
        return
    from torch._inductor.dependencies import StarDep, WeakDep
    from torch._inductor.scheduler import SchedulerNode
    from torch.utils._ordered_set import OrderedSet

    refit = SchedulerNode.recompute_size_and_body

    def recompute_size_and_body(node: Any, *arguments: Any, **options: Any) -> None:
        order = OrderedSet(dep for dep in node.read_writes.reads if isinstance(dep, (WeakDep, StarDep)))
        refit(node, *arguments, **options)
        if order:
            node.set_read_writes(node.read_writes.with_read(order).rename(node.mutation_renames))

    with _replaced(SchedulerNode, "recompute_size_and_body", recompute_size_and_body):
        yield


_STRIDED = 35
"""loads and stores with strides, from which on the compiler writes a loop number by number"""


@contextlib.contextmanager
def _vectors_to_the_end() -> Iterator[None]:
    """Let short loops, and what is left at the end of others, be made of vectors too.

    The compiler writes some of them number by number: a loop of few operations over less than a quarter of a vector, and
    less than half a vector at the end where much is chosen by masks. There it takes the C library's sine and not its own
    for vectors, so two lanes would round differently from four. What it writes so because of strides, it does so for any
    number of lanes.
    """
    try:
        from torch._inductor import config
        from torch._inductor.codegen.cpp import TilingSelect

        select = TilingSelect.select_tiling
    except (ImportError, AttributeError):
        yield
        return

    def select_tiling(chooser: Any, *loops: Any) -> Any:
        chosen = select(chooser, *loops)
        counts = getattr(chosen[-1], "op_counter", None)
        if counts is None:
            # Torch before 2.13 does not say why: strided loops would become vectors too, and round otherwise.
            return chosen
        total, strided = sum(counts.values()), sum(chosen[-1].non_contig_indexing_op_counter.values())
        by_strides = strided >= _STRIDED or strided >= chosen[-1].OVERHEAD_RATIO_THRESHOLD * total
        if not chosen[0] and total and not by_strides:
            with config.patch({"cpp.enable_tiling_heuristics": False}):
                chosen = select(chooser, *loops)
        # Without counts, no end is taken for too short.
        return (*chosen[:-1], type(chosen[-1])())

    with _replaced(TilingSelect, "select_tiling", select_tiling):
        yield


@contextlib.contextmanager
def _quick_strides() -> Iterator[None]:
    """Read off by how much an index moves with a loop's variable, where it is a plain multiple of it.

    The compiler has an algebra system simplify the whole index for each variable, which was a third of the time that a network
    of convolutions took to compile. Terms without the variable do not move, and a multiple moves by its factor; what is left,
    quotients and remainders, is the compiler's to simplify.
    """
    try:
        sympy: Any = importlib.import_module("sympy")
        cpp: Any = importlib.import_module("torch._inductor.codegen.cpp")
        simplify = cpp.stride_at_vec_range
    except (ImportError, AttributeError):
        yield
        return

    def stride(index: Any, variable: Any, *length: Any) -> Any:
        known, others = sympy.Integer(0), []
        for term in sympy.Add.make_args(index):
            if variable not in term.free_symbols:
                continue
            factor = term.coeff(variable)
            if factor.is_Integer and term == factor * variable:
                known += factor
            else:
                others.append(term)
        return known + simplify(sympy.Add(*others), variable, *length) if others else known

    with _replaced(cpp, "stride_at_vec_range", stride):
        yield


_expressions: dict[str, str] = {}
"""C++ by the name of an operation, with a place for the argument: what `write_as` was given"""


def write_as(name: str, expression: str) -> bool:
    """Let programs on a CPU take this C++ for an operation on one float32 number, or on a vector of them.

    To the compiler it stays one operation. Spelt out by a decomposition, it would be traced, planned and printed
    number by number: the Python of a program with four tanh takes a third longer then.

    Args:
        name: Of a method of the compiler's `OpsHandler`, as `tanh`.
        expression: Has `{x}` for the argument, a `float` or an `at::vec::Vectorized<float>`.

    Returns:
        Whether this torch can be told so.
    """
    try:
        from torch._inductor.codegen.cpp import CppOverrides, CppVecOverrides

        known = all(isinstance(vars(way)[name], staticmethod) for way in (CppOverrides, CppVecOverrides))
    except (ImportError, KeyError):
        return False
    if known:
        _expressions[name] = expression
    return known


def way_of_compiling() -> str:
    """Return what a compiled program depends on besides its graph, torch and the machine."""
    return Path(__file__).read_text(encoding="utf-8") + repr(_expressions)


@contextlib.contextmanager
def _as_written() -> Iterator[None]:
    """Write operations as `write_as` was told."""
    if not _expressions:
        yield
        return
    from torch._inductor.codegen.cpp import CppOverrides, CppVecOverrides

    def way(before: Callable[[Any], str], expression: str) -> Any:
        @functools.wraps(before)  # whose name it goes by where vectors are written number by number
        def write(x: Any) -> str:
            return expression.format(x=x) if x.dtype == torch.float32 else before(x)

        return staticmethod(write)

    with contextlib.ExitStack() as contexts:
        for owner in (CppOverrides, CppVecOverrides):
            for name, expression in _expressions.items():
                contexts.enter_context(_replaced(owner, name, way(getattr(owner, name), expression)))
        yield


@contextlib.contextmanager
def _booleans_at_once() -> Iterator[None]:
    """Let a vector of booleans be read and written by few instructions.

    The compiler's own way goes number by number: reading jumps by what each of them is, and writing sixteen fills a vector
    with room for 64. That took half of a step in which episodes end.
    """
    try:
        from torch._inductor.codegen.cpp import CppVecKernel

        read, write = CppVecKernel._get_vec_load_line, CppVecKernel._get_store_line
    except (ImportError, AttributeError):
        yield
        return

    def load_line(kernel: Any, var: str, index: Any, dtype: torch.dtype, *rest: Any, **options: Any) -> Any:
        line = read(kernel, var, index, dtype, *rest, **options)
        mask, separator, arguments = line.partition("::from(")
        if dtype != torch.bool or not separator:
            return line
        return _READ_BOOLEANS.format(mask=mask, arguments=arguments.removesuffix(")"))

    def store_line(
        kernel: Any, value: Any, var: str, index: Any, dtype: torch.dtype, *rest: Any, **options: Any
    ) -> Any:
        code = write(kernel, value, var, index, dtype, *rest, **options)
        line, *others = code.getvalue().splitlines()
        if dtype != torch.bool or others or not line.startswith(f"{value}.store("):
            return code
        arguments = line.removeprefix(f"{value}.store(").removesuffix(");")
        again = type(code)()
        again.writeline(_WRITE_BOOLEANS.format(mask=value, arguments=arguments))
        return again

    with (
        _replaced(CppVecKernel, "_get_vec_load_line", load_line),
        _replaced(CppVecKernel, "_get_store_line", store_line),
    ):
        yield


_READ_BOOLEANS = """[](const bool* place, int count) {{
    using Numbers = at::vec::Vectorized<float>;
    if constexpr ({mask}::size() == Numbers::size()) {{
        auto bytes = at::vec::Vectorized<int8_t>::loadu(reinterpret_cast<const int8_t*>(place), count);
        return at::vec::VecMask<float, 1>(at::vec::convert<float>(bytes) != Numbers(0));
    }} else
        return {mask}::from(place, count);
}}({arguments})"""
"""Booleans are bytes of 0 and 1 in memory; in a vector of floats they have as many bits as those."""

_WRITE_BOOLEANS = """[](auto mask, bool* place, int count) {{
    using Numbers = at::vec::Vectorized<float>;
    if constexpr (decltype(mask)::size() == Numbers::size()) {{
        Numbers numbers = mask.template to<float, 1>();
        at::vec::convert<int8_t>(numbers).store(reinterpret_cast<int8_t*>(place), count);
    }} else
        mask.store(place, count);
}}({mask}, {arguments});"""


@contextlib.contextmanager
def _rules_once() -> Iterator[None]:
    """Let the compiler list the dtypes of its operations once: it does so anew for each operation that it writes."""
    try:
        from torch._inductor.dtype_propagation import DtypePropagationOpsHandler as Rules
    except ImportError:
        yield
        return
    begin = vars(Rules)["__init__"]

    def begin_once(rules: Any) -> None:
        if not vars(rules):
            begin(rules)

    with _replaced(Rules, "__init__", begin_once):
        yield


@functools.cache
def call_natively(names: tuple[str, ...]) -> None:
    """Let programs written in C++ call the functions `aoti_torch_funcrl_<name>` for the operators `funcrl::<name>`.

    Args:
        names: Operators that take tensors and integers, and return one contiguous tensor. The function
            takes handles of the output and of the inputs, and the integers; only bmm takes inputs
            that are not contiguous.
    """
    from torch._inductor import ir, lowering
    from torch._inductor.virtualized import V

    class Call(ir.ExternKernelOut):
        def codegen(self, wrapper: Any) -> None:
            handles, integers = (
                ["AtenTensorHandle"] * (1 + len(self.inputs)),
                ["int64_t"] * len(self.constant_args),
            )
            line = f'extern "C" AOTITorchError {self.cpp_kernel_name}({", ".join(handles + integers)});'
            if line not in wrapper.header.getvalue():
                wrapper.header.writeline(line)
            super().codegen(wrapper)

    def lower(name: str) -> None:
        operator = getattr(torch.ops.funcrl, name).default
        otherwise: Any = lowering.fallback_handler(operator, add_to_fallback_set=False)  # type: ignore[no-untyped-call]

        def call(*arguments: Any) -> Any:
            if not V.graph.cpp_wrapper:
                return otherwise(*arguments)
            value = V.graph.current_node.meta["val"]
            prepare = ir.ExternKernel.realize_input if name == "bmm" else ir.ExternKernel.require_contiguous
            found = Call(
                layout=ir.FixedLayout(value.device, value.dtype, list(value.shape)),
                inputs=[prepare(x) for x in arguments if isinstance(x, ir.TensorBox)],
                constant_args=[x for x in arguments if isinstance(x, int)],
                cpp_kernel_name=f"aoti_torch_funcrl_{name}",
                op_overload=operator,
            )
            return ir.TensorBox.create(found)

        lowering.register_lowering(operator, type_promotion_kind=None)(call)

    for name in names:
        lower(name)


def compile_graph(graph: GraphModule, folder: Path | None = None) -> Program:
    """Compile a flat graph that `graphs.trace` made, whose only writes are into its inputs at its end.

    Args:
        graph: From tensors to a list of tensors.
        folder: Where to remember what the C++ compiler can do; nothing is remembered without one.

    Raises:
        RuntimeError: When torch's compiler cannot be used at all; it says what to write instead.
    """
    try:
        return _compile_directly(graph, folder)
    except (ImportError, AttributeError, TypeError) as error:
        _say_that_it_changed(f"{type(error).__name__}: {error}")
    except RuntimeError as error:
        if "InvalidCxxCompiler" in f"{type(error).__name__} {error}":
            raise CompilerError(
                f"jit: a C++ compiler must be there, got none by the name {os.environ.get('CXX', 'g++')!r}. "
                "Install g++, or set CXX to the name of one program; or write backend='eager'."
            ) from None
        raise
    return _compile_publicly(graph)


def _compile_directly(graph: GraphModule, folder: Path | None = None) -> Program:
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.virtualized import V

    mode = _with_fake_tensors(graph)
    inputs = [node.meta["val"] for node in graph.graph.nodes if node.op == "placeholder"]
    (end,) = (node for node in graph.graph.nodes if node.op == "output")
    end.meta["user_visible_output_idxs"] = list(range(len(end.args[0])))
    on_cpu = all(value.device.type == "cpu" for value in inputs)
    options = _known(_OPTIONS | (_CPU_OPTIONS if on_cpu else {}))
    if on_cpu and not _torch_for_all():
        options.pop("aot_inductor.link_libtorch", None)
    with contextlib.ExitStack() as contexts:
        for context in (torch.no_grad(), tracing(TracingContext(mode)), V.set_fake_mode(mode)):
            contexts.enter_context(context)
        contexts.enter_context(config.patch(options))
        contexts.enter_context(_quick_checks(folder))
        contexts.enter_context(_quick_headers(folder))
        contexts.enter_context(_writes_wait_for_reads())
        contexts.enter_context(_vectors_to_the_end())
        contexts.enter_context(_quick_strides())
        contexts.enter_context(_as_written())
        contexts.enter_context(_booleans_at_once())
        contexts.enter_context(_rules_once())
        compiled: Any = compile_fx_inner(graph, inputs, is_inference=True, cpp_wrapper=on_cpu)
    return compiled.current_callable  # type: ignore[no-any-return]


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out options that this torch does not have: they only save time."""
    from torch._inductor import config

    def is_known(name: str) -> bool:
        try:
            functools.reduce(getattr, name.split("."), config)
        except AttributeError:
            return False
        return True

    return {name: value for name, value in options.items() if is_known(name)}


def _compile_publicly(graph: GraphModule) -> Program:
    try:
        written = GraphModule(graph, graph.graph)  # it reads Python
        compiled = torch.compile(written, fullgraph=True, dynamic=False, options=_known(_OPTIONS))
    except RuntimeError as error:
        raise RuntimeError(
            f"jit: torch {torch.__version__} must be able to compile, got {error}. Write backend='eager'."
        ) from error

    def run(leaves: list[Tensor]) -> Sequence[Tensor]:
        with torch.no_grad():
            return compiled(*leaves)  # type: ignore[no-any-return]

    return run


@dataclass(frozen=True)
class Generated:
    """What the compiler wrote for one program."""

    kernels: int
    """functions that loop over tensors"""
    source_bytes: int
    """length of the code, wrapper included"""
    allocated_bytes: int
    """bytes of what is neither an input nor written into one: intermediate results and outputs"""


class Written(BaseException):  # no Exception: nothing of torch's is to handle it
    """A program was written, and goes no further."""


@contextlib.contextmanager
def watch_compiler() -> Iterator[list[Generated]]:
    """Collect what is written for each program compiled in this context, which ends in `Written`, before the C++ compiler.

    It is written for one thread and 256-bit vectors, whatever this machine has, and not kept.
    """
    from torch._inductor import config, metrics
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V

    found: list[Generated] = []
    kernels = metrics.generated_kernel_count

    def save(code: str) -> None:
        nonlocal kernels
        buffers = V.graph.scheduler.name_to_buf.values()
        own = [x.get_name() for x in buffers if not x.get_mutations() and not x.get_aliases()]
        sizes = [_buffer_bytes(V.graph, name) for name in own if name not in V.graph.removed_buffers]
        found.append(Generated(metrics.generated_kernel_count - kernels, len(code.encode()), sum(sizes)))
        kernels = metrics.generated_kernel_count
        raise Written

    options = {"force_disable_caches": True, "cpp.threads": 1, "cpp.simdlen": 256}
    with _replaced(GraphLowering, "save_output_code", save), config.patch(options):
        yield found


def _buffer_bytes(graph: Any, name: str) -> int:
    return int(graph.get_numel(name)) * int(graph.get_dtype(name).itemsize)


@functools.cache
def _say_that_it_changed(reason: str) -> None:
    warnings.warn(
        f"torch {torch.__version__} is not a version that funcrl knows: its compiler is reached by "
        f"torch.compile, which starts more slowly ({reason}).",
        stacklevel=2,
    )
