"""How many threads compute, and that they are told how to wait before they exist."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from musiclm.core.bundle import Bundle
from musiclm.core.threads import BRIEFLY, WAITING, num_threads, on_threads, threads_for, wait_briefly
from musiclm.generate.autoregressive import decode
from musiclm.generate.session import MusicLM
from musiclm.nn.sampling import Sampling
from tests.generate.test_autoregressive import make


@pytest.fixture
def two_threads() -> Iterator[None]:
    with num_threads(2):
        yield


def test_a_share_for_each_thread(two_threads: None) -> None:
    with torch.device("meta"):
        sizes = [nn.Linear(width, width, bias=False) for width in (1, 5_000, 8_000, 10_000)]
    assert [threads_for(network) for network in sizes] == [1, 1, 2, 2], "one up to 64 million weights, two at most"


def test_threads_change_inside_alone_and_for_this_thread_alone(two_threads: None) -> None:
    seen: list[int] = []
    inside, checked = threading.Event(), threading.Event()

    def other() -> None:
        with num_threads(2):
            inside.wait()
            seen.append(torch.get_num_threads())
            checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(ValueError), num_threads(1):
        assert torch.get_num_threads() == 1
        inside.set()
        checked.wait()
        raise ValueError
    thread.join()
    assert torch.get_num_threads() == 2 and seen == [2]


def test_a_generator_has_its_threads_and_who_asks_has_others(two_threads: None) -> None:
    inside: list[int] = []

    @on_threads(lambda threads: threads)
    def steps(threads: int) -> Iterator[int]:
        for _ in range(2):
            inside.append(torch.get_num_threads())
            yield torch.get_num_threads()

    for value in steps(1):
        assert value == 1 and torch.get_num_threads() == 2
    assert list(steps(2)) == [2, 2] and inside == [1, 1, 2, 2]
    assert torch.get_num_threads() == 2


def test_small_language_models_run_on_one_thread(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("semantic")
    used: list[int] = []
    read = model.read
    monkeypatch.setattr(model, "read", lambda *rest: used.append(torch.get_num_threads()) or read(*rest))
    levels = model.layout.target_spec.levels
    u = torch.rand(1, 6 * levels)
    codes = list(decode(model, {}, 6, Sampling(), u))
    assert set(used) == {1} and len(used) == 6 * levels - 1 and torch.get_num_threads() == 2
    monkeypatch.setattr("musiclm.core.threads.WEIGHTS_PER_THREAD", 1)
    again = list(decode(model, {}, 6, Sampling(), u))
    assert set(used[6 * levels - 1 :]) == {2}, "a large model's steps are shared"
    assert torch.equal(torch.stack(codes), torch.stack(again))


def test_every_stage_of_a_small_bundle_runs_on_one_thread(
    bundle: Bundle, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MusicLM.from_pretrained(bundle.folder)
    used: dict[str, set[int]] = {}
    stages = {"semantic": model.semantic, "storm": model.acoustic_decoder(model.default_config()).model}
    for name, network in {**stages, "codec": model.soundstream, "mulan": model.mulan}.items():
        for part in network.modules():
            part.register_forward_pre_hook(
                lambda *_, name=name: used.setdefault(name, set()).add(torch.get_num_threads())
            )
    music = model.generate("a calm piano piece", 1.0)
    assert {name: {1} for name in used} == used and {"semantic", "codec", "mulan"} <= set(used)
    assert torch.get_num_threads() == 2, "who asked has the threads it had"
    with num_threads(1):
        assert model.generate("a calm piano piece", 1.0).audio.tobytes() == music.audio.tobytes()


def test_how_to_wait_is_the_users_choice_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    wait_briefly()
    assert not set(BRIEFLY) & set(os.environ)
    monkeypatch.delenv("OMP_WAIT_POLICY")
    for name in BRIEFLY:
        monkeypatch.setenv(name, "")  # so that what is set below goes after the test
        monkeypatch.delenv(name)
    wait_briefly()
    assert {name: os.environ[name] for name in BRIEFLY} == BRIEFLY


@pytest.mark.skipif(sys.platform != "linux", reason="the OpenMP of torch is another")
def test_openmp_hears_of_it() -> None:
    """The command line sets it before torch is imported; what OpenMP then goes by, it prints itself."""
    script = "import sys\nfrom musiclm.cli import main\nsys.argv = ['musiclm', '--version']\nmain()\nimport torch"
    kept = {name: value for name, value in os.environ.items() if name not in WAITING}
    told = subprocess.run(
        [sys.executable, "-c", script], env=kept | {"OMP_DISPLAY_ENV": "verbose"}, capture_output=True, text=True
    )
    assert told.returncode == 0
    if "GOMP_SPINCOUNT" not in told.stderr:
        pytest.skip("torch was built with another OpenMP")
    assert f"GOMP_SPINCOUNT = '{BRIEFLY['GOMP_SPINCOUNT']}'" in told.stderr
