"""Compiled programs on the disk: loaded where they are, compiled where they are not or cannot be used."""

import contextlib
import importlib.util
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from funcrl.core import background, internals, native, store
from funcrl.core.jit import jit

pytestmark = pytest.mark.compiled

USUAL_FOLDER = store.folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "folder", lambda: tmp_path)
    monkeypatch.setattr(background, "num_cores", lambda: 1)
    return tmp_path


@contextlib.contextmanager
def counted():
    """The graphs that were compiled; what the C++ compiler can do is remembered where all tests remember it."""
    found, compile_graph = [], internals.compile_graph

    def count(graph, folder=None):
        found.append(graph)
        return compile_graph(graph, USUAL_FOLDER())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(internals, "compile_graph", count)
        patch.setattr(background, "num_cores", lambda: 1)
        yield found


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The file of the program of `run`, of which two were asked for, what they returned, and how many were compiled."""
    own = tmp_path_factory.mktemp("kept")
    with counted() as compiled, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "folder", lambda: own)
        results = run(), run()
    (file,) = files(own)
    return file, results, len(compiled)


@pytest.fixture
def pretended(monkeypatch):
    """The graphs that would have been compiled: they run as they were traced, and leave a library that is no program."""
    found = []

    def pretend(graph, folder=None):
        found.append(graph)
        return lambda leaves: graph(*[leaves.pop(0) for _ in leaves[:]])

    monkeypatch.setattr(internals, "compile_graph", pretend)
    monkeypatch.setattr(internals, "library", lambda program: torch._C.__file__)
    return found


@pytest.fixture
def kept_again(kept, pretended, monkeypatch):
    """The graphs that would have been compiled where all are that of `run`: they leave its program."""
    monkeypatch.setattr(internals, "library", lambda program: kept[0])
    return pretended


def counting(state, x):
    return {"count": state["count"] + 1, "sum": state["sum"] + x.sum()}, x.exp()


def run():
    state = {"count": torch.zeros((), dtype=torch.int64), "sum": torch.tensor(0.5)}
    program = jit(counting, donate=(0,))
    for _ in range(2):
        state, y = program(state, torch.arange(20.0) / 7)
    return state["count"], state["sum"], y


def files(folder):
    return list((folder / "programs").glob("*.so"))


def test_a_program_is_compiled_once_and_loaded_from_then_on(kept):
    _, (first, second), compiled = kept
    assert compiled == 1
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert first[0] == 2


def test_other_code_shapes_settings_and_threads_are_other_programs(folder, pretended):
    from torch._inductor import config

    x = torch.ones(4)
    jit(lambda x: x * 2)(x)
    jit(lambda x: x * 3)(x)
    jit(lambda x: x * 2)(torch.ones(5))
    jit(lambda x: x * 2)(x.double())
    with config.patch({"cpp.threads": 1, "cpp.simdlen": 256}):
        jit(lambda x: x * 2)(x)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    jit(lambda x: x * 2)(x)
    torch.set_num_threads(threads)
    assert len(pretended) == len(files(folder)) == 6


def test_numbers_in_the_code_are_part_of_it(folder, pretended):
    numbers = [jit(lambda x, c=c: x + torch.tensor(c))(torch.zeros(2)).tolist() for c in (1.5, 2.5)]
    assert numbers == [[1.5] * 2, [2.5] * 2]
    assert len(pretended) == len(files(folder)) == 2


def test_tables_are_given_to_it(folder):
    with counted() as compiled:
        for c in (1.0, 2.0):
            tables = torch.arange(20.0) * c, torch.arange(3) + int(c)

            def look_up(state, index, tables=tables):
                return state + tables[0][index], tables[1]

            state, other = jit(look_up, donate=(0,))(torch.zeros(2), torch.tensor([3, 7]))
            assert state.tolist() == [3 * c, 7 * c]
            assert other.tolist() == tables[1].tolist()
            assert other.data_ptr() != tables[1].data_ptr()
    assert len(compiled) == len(files(folder)) == 1


def test_a_damaged_file_is_compiled_anew_and_mended(folder, kept, kept_again):
    first = run()
    (file,) = files(folder)
    file.write_bytes(b"no program")
    assert torch.equal(run()[1], first[1])
    assert len(kept_again) == 2
    assert file.read_bytes() == kept[0].read_bytes()
    run()
    assert len(kept_again) == 2


def test_where_nothing_can_be_written_it_compiles_all_the_same(folder, pretended, monkeypatch):
    file = folder / "file"
    file.touch()
    monkeypatch.setattr(store, "folder", lambda: file)
    assert torch.equal(run()[1], run()[1])
    assert len(pretended) == 2


def test_caches_that_are_turned_off_stay_empty(folder, pretended):
    from torch._inductor import config

    with config.patch({"force_disable_caches": True}):
        run()
        run()
    assert len(pretended) == 2
    assert not files(folder)


def test_a_file_is_for_its_owner_and_lies_there_whole_or_not_at_all(kept):
    file, *_ = kept
    assert file.stat().st_uid == os.getuid()
    assert not file.stat().st_mode & stat.S_IWOTH
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "variables",
    [
        {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": ""},
        {"XDG_CACHE_HOME": "/dev/null"},
        {"TORCHINDUCTOR_CACHE_DIR": "/dev/null/x"},
    ],
)
def test_where_the_usual_folder_cannot_be_there_is_another_of_ones_own(variables, tmp_path, monkeypatch):
    assert folder_of_a_process(monkeypatch, tmp_path, variables) == tmp_path / f"funcrl-{os.getuid()}"


def test_a_folder_that_torch_chose_in_a_process_is_not_that_of_the_processes_it_starts(tmp_path, monkeypatch):
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    torchs, ours = str(tmp_path / Path(default_cache_dir()).name), tmp_path / "cache" / "funcrl"
    variables = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TORCHINDUCTOR_CACHE_DIR": torchs}
    assert folder_of_a_process(monkeypatch, tmp_path, variables) == ours
    variables["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path / "elsewhere")
    assert folder_of_a_process(monkeypatch, tmp_path, variables) == tmp_path / "elsewhere" / "funcrl"


def test_a_folder_that_others_own_is_not_taken(tmp_path, monkeypatch):
    if os.getuid() != 0:
        pytest.skip("only root gives folders away")
    (tmp_path / "funcrl").mkdir()
    os.chown(tmp_path / "funcrl", 12345, 12345)
    found = folder_of_a_process(monkeypatch, tmp_path, {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)})
    assert found == tmp_path / "funcrl-0"


def folder_of_a_process(monkeypatch, temporary, variables):
    """Where a process that begins with these variables keeps its programs: it reads them when it imports the module."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    for name, value in ({"TMPDIR": str(temporary)} | variables).items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("store_of_a_new_process", store.__file__)
    new = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(new)
    return new.folder()


def test_a_number_that_a_function_captures_may_be_used_like_any_tensor():
    c = torch.tensor(5.0)
    x = torch.arange(4.0)

    def captured(x):
        return x * c, c.clone(), torch.searchsorted(x, c), torch.stack([x[0], c])

    program = jit(lambda x: (captured(x), x + torch.tensor(3), torch.tensor(2.0)))
    for value in (5.0, 2.0):
        c.fill_(value)
        with counted():
            found, *made_inside = program(x)
        assert all(torch.equal(a, b) for a, b in zip(found, captured(x), strict=True))
        assert [y.tolist() for y in made_inside] == [[3.0, 4.0, 5.0, 6.0], 2.0]


@pytest.mark.skipif(sys.platform != "linux", reason="libraries of Linux say how long they are")
def test_what_was_cut_short_is_made_anew(folder, kept_again):
    first = run()
    (program,) = files(folder)
    for length in (0, 100, 4096, program.stat().st_size // 2):
        whole = program.read_bytes()
        program.unlink()  # what this process has loaded stays as it is
        program.write_bytes(whole[:length])
        assert not store.is_whole(program)
        assert torch.equal(run()[1], first[1])
        assert store.is_whole(program)


def test_a_damaged_library_is_built_anew(folder, monkeypatch):
    usual = USUAL_FOLDER() / f"native-{native.version()[:16]}.so"
    if not usual.exists():
        native._build(store.compiler(), usual)
    built, file = [], folder / usual.name
    monkeypatch.setattr(native, "_build", lambda compiler, path: built.append(shutil.copy(usual, path)))
    for content in (usual.read_bytes()[:4096], b"", b"no library"):
        file.unlink(missing_ok=True)
        file.write_bytes(content)
        assert native.library.__wrapped__() is not None
        assert store.is_whole(file)
    assert built == [file] * 3


def test_without_a_cpp_compiler_it_says_what_to_write_instead(folder, monkeypatch):
    monkeypatch.setattr(internals, "_compile_directly", no_compiler)
    with pytest.raises(internals.CompilerError, match=r"Install g\+\+, .* or write backend='eager'"):
        jit(lambda x: x + 1)(torch.ones(2))


def no_compiler(graph, folder):
    from torch._inductor.exc import InvalidCxxCompiler

    raise InvalidCxxCompiler
