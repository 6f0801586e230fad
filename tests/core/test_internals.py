"""Torch's inside: one test an interface, which names what broke when a new torch moves it."""

from types import SimpleNamespace

import pytest
import torch
from torch._inductor.graph import GraphLowering
from torch.nn import functional as F

from funcrl.core import graphs, internals, native, operators, random, rewrites, tree
from funcrl.core.jit import jit


def traced(function, *leaves):
    graph, _ = graphs.trace(function, list(leaves), tree.flatten(leaves)[1])
    return graph


def twice_and_one(x):
    """What several tests compile, and torch keeps."""
    return [x * 2 + 1]


def test_the_compiler_has_decompositions():
    assert torch.ops.aten.bmm.default in internals.decompositions()


def test_tensors_that_look_alike_are_told_from_others():
    x, y = torch.ones(4, 5), torch.tensor(2.0)
    alike = internals.look_alike([x, y])
    assert alike(torch.zeros(4, 5), y)
    others = [
        torch.ones(5, 4),
        torch.ones(5, 4).T,
        x.double(),
        x[None],
        torch.empty_like(x, device="meta"),
        3.0,
    ]
    assert not any(alike(other, y) for other in others)


def test_without_a_quick_way_to_tell_nothing_looks_alike(monkeypatch):
    monkeypatch.delattr(torch._C._dynamo.guards, "TensorGuards")
    alike = internals.look_alike([torch.ones(3)])
    assert not alike(torch.ones(3))
    program = jit(lambda x: x + 1, backend="aot_eager")
    assert [program(torch.ones(2)).tolist() for _ in range(2)] == [[2.0] * 2] * 2
    assert program.num_graphs == 1


@pytest.mark.compiled
def test_a_compiled_program_is_entered_at_an_address_in_its_library(monkeypatch):
    graph = traced(twice_and_one, torch.ones(3))
    program = internals._compile_directly(graph)
    loaded = internals.load_library(internals.library(program))
    assert internals.entry_address(program) == internals.entry_address(loaded) != 0
    assert internals.entry_address(lambda leaves: leaves) is None
    monkeypatch.setattr(internals, "_ENTRY_IN_CPP", "of_another_torch")
    assert internals.entry_address(program) is None


@pytest.mark.compiled
def test_a_graph_is_compiled_at_the_compilers_back_end():
    graph = traced(twice_and_one, torch.ones(3))
    program = internals._compile_directly(graph)
    assert program([torch.ones(3)])[0].tolist() == [3.0] * 3


@pytest.mark.compiled
def test_a_torch_that_moved_something_compiles_by_the_public_way_and_says_so(monkeypatch):
    def moved(graph, folder):
        raise ImportError("no such thing as compile_fx_inner")

    monkeypatch.setattr(internals, "_compile_directly", moved)
    internals._say_that_it_changed.cache_clear()
    # A product takes no C++: what `torch.compile` writes as users call it has a precompiled header of its own.
    graph = traced(lambda x: [x @ x], torch.ones(3, 3))
    with pytest.warns(UserWarning, match="is not a version that funcrl knows"):
        program = internals.compile_graph(graph)
    assert program([torch.ones(3, 3)])[0].tolist() == [[3.0] * 3] * 3


def test_what_goes_wrong_in_a_function_of_ones_own_is_not_taken_for_a_new_torch(monkeypatch):
    def broken(graph, folder):
        raise RuntimeError("no compiler on this machine")

    monkeypatch.setattr(internals, "_compile_directly", broken)
    with pytest.raises(RuntimeError, match="no compiler"):
        internals.compile_graph(traced(lambda x: [x + 1], torch.ones(3)))


def test_what_the_processor_can_do_is_asked_once_and_remembered(tmp_path, monkeypatch):
    from torch._inductor.cpu_vec_isa import VecAVX2, VecAVX512, VecISA

    asked = []
    monkeypatch.setattr(VecISA, "check_build", lambda isa, code: asked.append(str(isa)) or str(isa) != "none")
    before = VecISA.check_build
    for _ in range(2):
        with internals._quick_checks(tmp_path):
            assert VecAVX2().check_build("code")
            assert VecAVX2().check_build("other code")
    assert asked == ["avx2", "avx2"]
    with internals._quick_checks(tmp_path):
        assert VecAVX512().check_build("code")
    assert asked == ["avx2", "avx2", "avx512"]
    assert VecISA.check_build is before


def test_narrower_instructions_are_not_asked_about_and_a_no_is_not_remembered(tmp_path, monkeypatch):
    from torch._inductor.cpu_vec_isa import VecAVX512, VecAVX512VNNI, VecISA

    asked = []
    monkeypatch.setattr(VecISA, "check_build", lambda isa, code: asked.append(str(isa)) or len(asked) > 1)
    with internals._quick_checks(tmp_path):
        assert not VecAVX512VNNI().check_build("code")
        assert VecAVX512VNNI().check_build("code")
        assert VecAVX512().check_build("code")
    assert asked == ["avx512 avx512_vnni"] * 2


def test_avx2_is_not_asked_about_where_the_compiler_can_do_wider(tmp_path, monkeypatch):
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import VecAVX2, VecAVX512, VecISA

    asked = []

    def check_build(isa, code):
        asked.append((str(isa), config.aot_inductor.link_libtorch))
        return True

    monkeypatch.setattr(VecISA, "check_build", check_build)
    with config.patch({"aot_inductor.link_libtorch": False}), internals._quick_checks(tmp_path):
        assert VecAVX512().check_build("code")
        assert VecAVX2().check_build("code")
        assert not config.aot_inductor.link_libtorch
    # What is built to answer is loaded in a process without torch.
    assert asked == [("avx512", True)]


@pytest.mark.compiled
def test_programs_have_the_vectors_of_this_processor():
    written = []

    def save(code):
        written.append(code)
        raise internals.Written  # it is read, not run

    graph = traced(twice_and_one, torch.ones(100))  # before 2.13 short loops have none
    with internals._replaced(GraphLowering, "save_output_code", save), pytest.raises(internals.Written):
        internals._compile_directly(graph)
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("has no vectors that this test knows")
    assert "at::vec::Vectorized" in written[0]


def test_where_a_header_is_compiled_is_remembered_until_it_is_gone(tmp_path, monkeypatch):
    from torch._inductor import codecache

    asked, compiled = [], tmp_path / "a.h.gch"

    def precompile(header, hashable_cmd_line, **command):
        asked.append((header, hashable_cmd_line, command))
        compiled.touch()
        return str(tmp_path / "a.h")

    monkeypatch.setattr(codecache, "_precompile_header", precompile)
    question = {"header": "cpu.h", "hashable_cmd_line": "g++ -O1"}
    with internals._quick_headers(tmp_path / "own"):
        for _ in range(2):
            assert codecache._precompile_header(**question, vec_isa=1) == str(tmp_path / "a.h")
        assert asked == [("cpu.h", "g++ -O1", {"vec_isa": 1})]
        compiled.unlink()
        codecache._precompile_header(**question)
        for other in ({"header": "other.h"}, {"hashable_cmd_line": "g++ -O3"}):
            codecache._precompile_header(**question | other)
    assert len(asked) == 4
    with internals._quick_headers(None):
        codecache._precompile_header(**question)
    assert len(asked) == 5
    assert codecache._precompile_header is precompile


@pytest.mark.parametrize("found_by_name", [True, False])
def test_programs_are_linked_with_torch_where_they_would_not_find_it(found_by_name, monkeypatch):
    from torch._inductor import compile_fx, config

    linked = []

    def compile_fx_inner(*_, **__):
        linked.append(config.aot_inductor.link_libtorch)
        return SimpleNamespace(current_callable=None)

    monkeypatch.setattr(internals, "_torch_for_all", lambda: found_by_name)
    monkeypatch.setattr(compile_fx, "compile_fx_inner", compile_fx_inner)
    internals._compile_directly(traced(twice_and_one, torch.ones(3)))
    assert linked == [not found_by_name]


@pytest.mark.compiled
def test_a_compiled_program_is_a_library_that_loads_without_the_compiler():
    graph = traced(twice_and_one, torch.ones(3))
    path = internals.library(internals._compile_directly(graph))
    assert path is not None
    assert (b"libtorch_cpu.so" in path.read_bytes()) != internals._torch_for_all()
    leaves = [torch.ones(3)]
    assert internals.load_library(path)(leaves)[0].tolist() == [3.0] * 3
    assert leaves == []
    with pytest.raises(ImportError):
        internals.load_library(path.with_suffix(".txt"))


def test_options_that_a_torch_does_not_have_are_left_out():
    assert internals._known({"cpp_wrapper": True, "cpp.threads": 1, "cpp.no_such_thing": 1}) == {
        "cpp_wrapper": True,
        "cpp.threads": 1,
    }
    assert internals._known(internals._OPTIONS) == internals._OPTIONS


def test_the_compilers_settings_are_those_of_the_moment():
    from torch._inductor import config

    before = internals.compiler_settings()
    assert internals.compiler_settings() == before
    with config.patch({"cpp.simdlen": 256}):
        assert internals.compiler_settings() != before


@pytest.mark.compiled
def test_a_program_calls_functions_by_name_and_other_compilers_the_operators():
    if native.library() is None:
        pytest.skip("needs a C++ compiler")
    internals.call_natively(tuple(operators.names))
    graph = traced(lambda x: [graphs.copy(x) + 1], torch.ones(3))
    sources = []
    with internals._replaced(GraphLowering, "save_output_code", sources.append):
        program = internals._compile_directly(graph)
    assert "AOTITorchError aoti_torch_funcrl_copy(AtenTensorHandle, AtenTensorHandle)" in sources[0]
    assert program([torch.ones(3)])[0].tolist() == [2.0] * 3
    # Nothing else, which would be C++ with a precompiled header of its own.
    assert torch.compile(graphs.copy, fullgraph=True)(torch.ones(3)).tolist() == [1.0] * 3


@pytest.mark.compiled
@pytest.mark.skipif(
    torch.__version__ < "2.13", reason="before 2.13 torch does not say why it writes a loop number by number"
)
def test_few_numbers_are_rounded_as_many_are():
    """Two lanes take the functions that four take, also where the compiler would write a short loop number by number."""

    def functions(x):
        return torch.sin(x), torch.exp(x) + 1, F.softplus(x)

    x = random.uniform(random.key(0), (200, 4, 1), -6.0, 6.0)
    both = jit(lambda rows, some: (functions(rows), functions(some)))
    for rows in x:
        several, few = both(rows, rows[:2].contiguous())
        assert all(torch.equal(a[:2], b) for a, b in zip(several, few, strict=True))


@pytest.mark.compiled
def test_booleans_are_written_as_bytes_and_are_the_same():
    def functions(x, wide, half, number, whole, byte, flag):
        found = [x > 0, ~flag, flag & (x > 0), x.isnan(), wide < 1, half > 0]
        return [*found, number > 1, whole > 1, byte > 2, (number > whole)[:3]]

    x = random.normal(random.key(0), (35,))
    x[2] = torch.nan
    number = torch.arange(35, dtype=torch.int32, device="cpu") % 4
    arguments = x, x.double() * 3, x.half(), number, number.long().flip(0), number.to(torch.uint8), x > 0.5
    arguments[-1].view(torch.uint8)[x > 1.0] = 255  # what is not 0 is true
    graph, sources = traced(functions, *arguments), []
    with internals._replaced(GraphLowering, "save_output_code", sources.append):
        program = internals._compile_directly(graph)
    assert "reinterpret_cast<int8_t*>" in sources[0]
    for ours, expected in zip(program(list(arguments)), functions(*arguments), strict=True):
        assert ours.dtype == torch.bool
        assert torch.equal(ours, expected)
        assert int(ours.view(torch.uint8).max()) <= 1


def test_strides_that_are_read_off_are_those_of_the_compiler():
    import sympy
    from torch._inductor.codegen import cpp
    from torch.utils._sympy.functions import FloorDiv, ModularIndexing

    x, y = (sympy.Symbol(name, integer=True, nonnegative=True) for name in ("x0", "x1"))
    indices = [
        x,
        sympy.Integer(7),
        96 * x + 3 * y + 5,
        x * y + 2 * x,
        FloorDiv(x, 16) + 4 * x + y,
        12 * FloorDiv(x, 2) + 8 * y,
        ModularIndexing(x, 1, 32) + 64 * FloorDiv(y, 3) + x,
        FloorDiv(x + 4 * y, 6) + 2 * x,
    ]
    theirs = [cpp.stride_at_vec_range(index, variable, 16) for index in indices for variable in (x, y)]
    with internals._quick_strides():
        assert cpp.stride_at_vec_range.__module__ == internals.__name__
        ours = [cpp.stride_at_vec_range(index, variable, 16) for index in indices for variable in (x, y)]
    assert [sympy.simplify(a - b) for a, b in zip(ours, theirs, strict=True)] == [0] * len(ours)
    assert [stride.is_number for stride in ours] == [stride.is_number for stride in theirs]


def test_the_compiler_lists_its_dtypes_once(monkeypatch):
    from torch._inductor.dtype_propagation import DtypePropagationOpsHandler as Rules

    listed = []
    begin = Rules.__init__
    monkeypatch.setattr(Rules, "_instance", None)
    monkeypatch.setattr(Rules, "__init__", lambda rules: (listed.append(1), begin(rules))[0])
    with internals._rules_once():
        assert Rules() is Rules()
        assert Rules().return_dtype(dtype=torch.bool) is torch.bool
    assert len(listed) == 1
    Rules()
    assert len(listed) == 2  # as torch does it, once more


def test_an_operation_is_written_as_told_while_funcrl_compiles_and_not_in_other_programs():
    from torch._inductor.codegen.cpp import CppOverrides, CppVecOverrides

    rewrites.for_cpu()  # which tells
    assert internals.write_as("no_such_operation", "{x}") is False
    before = [way.tanh for way in (CppOverrides, CppVecOverrides)]
    number = SimpleNamespace(dtype=torch.float32)
    with internals._as_written():
        written = [way.tanh(number) for way in (CppOverrides, CppVecOverrides)]
        assert "tanh" in CppOverrides.tanh(SimpleNamespace(dtype=torch.float64))
    assert written[0] == written[1]
    assert "square" in written[0]
    assert [way.tanh for way in (CppOverrides, CppVecOverrides)] == before


def test_operations_that_are_nothing_but_others_are_told_from_those_with_code_of_their_own():
    assert internals.composite(torch.ops.aten.add.Tensor) is None
    assert internals.composite(torch.ops.aten.detach.default) is None
    rule = internals.composite(torch.ops.aten.reshape.default)
    assert torch.equal(rule(torch.arange(4), [2, 2]), torch.tensor([[0, 1], [2, 3]]))


def test_the_python_of_a_graph_is_written_when_it_is_called():
    graph = torch.fx.Graph()
    graph.output([graph.call_function(torch.neg, (graph.placeholder("x"),))])
    module = internals.graph_module(torch.nn.Module(), graph)
    assert isinstance(module, torch.fx.GraphModule)
    assert module(torch.ones(2))[0].tolist() == [-1.0, -1.0]
