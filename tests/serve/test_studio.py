"""The studio in Chromium, as somebody uses it: by mouse, by keyboard, on a phone. Skipped without a Chromium.

Slow, and not for a busy machine: `make slow`.
"""

import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from musiclm.core.bundle import Bundle, open_bundle
from musiclm.generate.session import MusicLM
from tests.generate.test_melody import write_midi
from tests.mock import mock_bundle
from tests.serve.service import Service, SlowModel, serving, until
from tests.serve.test_service import tone

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
SHOTS = os.environ.get("MUSICLM_SCREENSHOTS")  # a folder: pictures of the page are put there
if not CHROMIUM:
    pytest.skip("no Chromium is installed (apt install chromium), or named by CHROMIUM", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
pytestmark = pytest.mark.slow
RATE_HZ = 24000  # of what the service makes
MOST_PICTURE_BYTES = 150_000
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Its microphone hears a tone of 330 Hz."""
    hummed = tmp_path_factory.mktemp("microphone") / "hummed.wav"
    hummed.write_bytes(tone(60, 48000))
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        flags += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={hummed}"]
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield running
        running.close()


@pytest.fixture
def service(bundle: Bundle, tmp_path: Path) -> Iterator[Service]:
    model: Any = SlowModel(MusicLM.from_pretrained(bundle.folder), 0.002)
    with serving(bundle, tmp_path / "takes", model, capacity=3) as running:
        yield running


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Service]:
    """A service of a bundle that can follow a melody."""
    follows = mock_bundle(tmp_path / "follows", melody=True)
    with serving(follows, tmp_path / "takes", capacity=3) as running:
        yield running


@pytest.fixture
def hearing(browser: Any, follower: Service) -> Iterator[Any]:
    """The page with a microphone."""
    yield from opened(browser, follower, DESKTOP, permissions=["microphone"])


@pytest.fixture
def page(browser: Any, service: Service) -> Iterator[Any]:
    yield from opened(browser, service, DESKTOP)


@pytest.fixture
def phone(browser: Any, service: Service) -> Iterator[Any]:
    yield from opened(browser, service, PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)


def opened(browser: Any, service: Service, viewport: Any, **options: Any) -> Iterator[Any]:
    """The page, ready. At the end: nothing went wrong in it, and it asked nothing of any other machine."""
    context = browser.new_context(viewport=viewport, accept_downloads=True, **options)
    context.set_default_timeout(60_000)
    page = context.new_page()
    wrong: list[str] = []
    elsewhere: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: elsewhere.append(request.url))
    page.goto(service.url)
    page.wait_for_selector("html[data-ready]")
    page.wrong = wrong
    yield page
    context.close()
    assert not [line for line in wrong if "Failed to load resource" not in line], wrong
    assert all(url.startswith((service.url, "blob:", "data:")) for url in elsewhere), "it works offline"


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def accessible(page: Any) -> None:
    """By axe-core, but for what wavesurfer draws, which a screen reader passes over."""
    found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
    assert found.violations_count == 0, found.generate_report()


def make(page: Any, prompt: str, seconds: str = "2", seed: str = "1") -> None:
    page.get_by_label("What is it like?").fill(prompt)
    page.get_by_label("Length, s").fill(seconds)
    page.get_by_label("Seed", exact=True).fill(seed)
    page.get_by_role("button", name="Make music").click()


def take_row(page: Any, name: str) -> Any:
    return page.locator("#tree .open").filter(has_text=name)


def test_music_is_made_heard_kept_and_saved(page: Any, service: Service) -> None:
    accessible(page)
    page.get_by_text("Examples").click()
    page.get_by_role("button", name="a celtic tune with harp and flute").click()
    assert page.get_by_label("What is it like?").input_value() == "a celtic tune with harp and flute"
    make(page, "slow piano", "40", "7")
    page.get_by_text("left").wait_for()
    page.locator("#play[aria-label=Pause]").wait_for()  # it plays while it is made
    page.wait_for_function("() => document.querySelector('#time').textContent > '0:00 / 0:40'")
    assert service.client.get("/healthz").json()["running"] == 1, "and is not whole yet"
    shot(page, "being-made")
    take_row(page, "slow piano").wait_for()
    page.get_by_role("group", name="What to do with this take").wait_for()
    (take,) = service.client.get("/v1/takes").json()["takes"]
    assert take["about"]["seed"] == 7 and take["duration_s"] == 40
    page.get_by_label("Spectrogram").check()
    page.wait_for_timeout(800)
    shot(page, "take")
    accessible(page)
    page.get_by_role("button", name="☆ Keep").click()
    page.get_by_role("button", name="★ Kept").wait_for()
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Name").fill("My <b>first</b> & best")
    page.get_by_role("button", name="Save").click()
    take_row(page, "My <b>first</b> & best").wait_for()
    page.get_by_text("Download", exact=True).click()
    with page.expect_download() as saved:
        page.get_by_role("link", name="FLAC").click()
    assert saved.value.suggested_filename == "My _b_first__b_ _ best.flac"
    found = service.client.get(f"/v1/takes/{take['id']}/sound.flac").content
    assert Path(saved.value.path()).read_bytes() == found
    told = service.client.get(f"/v1/takes/{take['id']}").json()
    assert told["kept"] and told["name"] == "My <b>first</b> & best"
    page.reload()
    take_row(page, "My <b>first</b> & best").wait_for()


def test_a_take_goes_on_below_it(page: Any, service: Service) -> None:
    first = service.made("generate", prompt="slow piano", duration_s=1.0)
    page.reload()
    take_row(page, "slow piano").click()
    page.get_by_role("button", name="Continue", exact=True).click()
    assert page.get_by_text("Goes on from “slow piano”, 0:01.").is_visible()
    page.get_by_label("What is it like from there?").fill("fast music")
    page.get_by_label("Length, s").fill("1")
    page.get_by_role("button", name="Continue it").click()
    page.locator("#tree ul .open").filter(has_text="fast music").wait_for()
    (child,) = [take for take in service.client.get("/v1/takes").json()["takes"] if take["id"] != first["id"]]
    assert child["parent"] == first["id"] and child["prompt"] == "fast music"
    page.get_by_role("button", name="New music instead").click()
    assert page.get_by_role("heading", name="New music").is_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    take_row(page, "slow piano").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("alert").get_by_text("takes were made from it").wait_for()
    accessible(page)
    shot(page, "problem")
    page.get_by_role("button", name="Close").click()
    page.locator("#tree ul .open").filter(has_text="fast music").click()
    page.get_by_role("button", name="Delete").click()
    until(lambda: len(service.client.get("/v1/takes").json()["takes"]) == 1)


def test_a_sound_file_is_sent_and_goes_on(page: Any, service: Service, tmp_path: Path) -> None:
    (tmp_path / "humming.wav").write_bytes(tone(1.5))
    (tmp_path / "letter.mp3").write_bytes(b"Dear sound file")
    page.get_by_label("Add a sound file").set_input_files(tmp_path / "letter.mp3")
    page.get_by_role("alert").get_by_text("The upload is no sound that can be read here").wait_for()
    page.get_by_label("Add a sound file").set_input_files(tmp_path / "humming.wav")
    take_row(page, "humming.wav").wait_for()
    page.wait_for_function("() => document.querySelector('#time').textContent === '0:00 / 0:01'")
    page.get_by_role("button", name="Continue", exact=True).click()
    page.get_by_label("Length, s").fill("1")
    page.get_by_role("button", name="Continue it").click()
    page.locator("#tree ul .open").filter(has_text="music without a prompt").wait_for()


def test_a_span_is_dragged_and_repainted(page: Any, service: Service) -> None:
    first = service.made("generate", prompt="slow piano", duration_s=4.0)
    page.reload()
    take_row(page, "slow piano").click()
    page.get_by_text("Drag on the waveform to choose a span").wait_for()
    page.wait_for_function("() => document.querySelector('#time').textContent.endsWith('0:04')")
    page.wait_for_timeout(500)
    box = page.locator("#wave").bounding_box()
    middle = box["y"] + 50
    page.mouse.move(box["x"] + box["width"] / 4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, middle, steps=8)
    page.mouse.up()
    page.get_by_role("heading", name="Repaint").wait_for()
    assert float(page.get_by_label("From, s").input_value()) == pytest.approx(1, abs=0.1)
    assert float(page.get_by_label("To, s").input_value()) == pytest.approx(2, abs=0.1)
    page.get_by_label("To, s").fill("2.5")  # by keyboard, the span follows
    accessible(page)
    shot(page, "repaint")
    page.get_by_label("What is it like there?").fill("fast music")
    page.get_by_role("button", name="Repaint the span").click()
    page.locator("#tree ul .open").filter(has_text="fast music").wait_for()
    (child,) = [take for take in service.client.get("/v1/takes").json()["takes"] if take["id"] != first["id"]]
    assert child["parent"] == first["id"] and child["verb"] == "repaint" and child["duration_s"] == 4
    assert child["made_from_s"] == pytest.approx(1, abs=0.1) and child["made_to_s"] == pytest.approx(2.5)


def test_a_take_is_varied_and_made_a_loop(page: Any, service: Service) -> None:
    service.made("generate", prompt="slow piano", duration_s=4.0)
    page.reload()
    take_row(page, "slow piano").click()
    page.get_by_role("button", name="Vary", exact=True).click()
    page.get_by_label("How different").fill("0.6")
    assert page.get_by_text("60 %").is_visible()
    page.get_by_role("button", name="Vary it").click()
    until(lambda: len(service.client.get("/v1/takes").json()["takes"]) == 2)
    take_row(page, "slow piano").first.click()
    page.get_by_role("button", name="Loop", exact=True).click()
    page.get_by_label("Tempo, BPM").fill("120")
    page.get_by_label("Length, s").fill("2")
    page.get_by_role("button", name="Make a loop").click()
    until(lambda: len(service.client.get("/v1/takes").json()["takes"]) == 3)
    verbs = {take["verb"]: take for take in service.client.get("/v1/takes").json()["takes"]}
    assert set(verbs) == {"generate", "vary", "loop"}
    assert verbs["vary"]["about"]["vary"]["strength"] == 0.6 and verbs["loop"]["duration_s"] == 2
    page.locator("#tree ul .open").nth(1).click()  # it plays on past its end
    page.get_by_label("Repeat").wait_for()
    assert page.get_by_label("Repeat").is_checked()
    page.wait_for_timeout(2600)
    assert page.locator("#play").get_attribute("aria-label") == "Pause"


def test_a_story_is_told_in_blocks(page: Any, service: Service) -> None:
    page.get_by_text("Story", exact=True).click()
    page.get_by_label("Length, s").fill("6")
    page.get_by_label("Section 1", exact=True).fill("slow piano")
    page.get_by_label("Section 2", exact=True).fill("fast music")
    page.get_by_label("From", exact=True).nth(1).fill("0:02")
    page.get_by_label("From", exact=True).nth(1).press("Enter")
    page.get_by_role("button", name=re.compile("^Section 2, from 0:02 to 0:06: fast music")).focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name=re.compile("^Section 2, from 0:03 to 0:06: fast music")).wait_for()
    page.get_by_role("button", name="Add a section").click()
    page.get_by_label("Section 3", exact=True).fill("slow piano")
    accessible(page)
    shot(page, "story")
    page.get_by_role("button", name="Remove section 3").click()
    page.get_by_label("Changes take, s").fill("1")
    page.get_by_role("button", name="Tell the story").click()
    take_row(page, "slow piano → fast music").wait_for()
    (take,) = service.client.get("/v1/takes").json()["takes"]
    told = take["about"]["story"]
    assert (
        [section["at_s"] for section in told["sections"]] == [0, 3] and told["blend_s"] == 1 and take["verb"] == "story"
    )


def test_what_is_being_made_can_be_cancelled(page: Any, service: Service) -> None:
    make(page, "slow piano", "300")
    page.get_by_role("button", name="Cancel slow piano").click()
    until(lambda: service.client.get("/healthz").json()["running"] == 0)
    page.locator("#work").wait_for(state="hidden")
    assert page.get_by_role("heading", name="Nothing to hear").is_visible()
    assert service.client.get("/v1/takes").json()["takes"] == []


def test_errors_are_one_line(page: Any, service: Service) -> None:
    make(page, "slow piano", "0.1")
    alert = page.get_by_role("alert").first
    alert.get_by_text("Duration_s: the duration is 0.1 s; it must lie between").wait_for()
    page.get_by_role("button", name="Close").click()
    for seed in range(4):
        make(page, "slow piano", "120", str(seed))
        page.wait_for_timeout(150)
    alert.get_by_text("3 pieces are in work or waiting, as many as may be").wait_for()
    shot(page, "busy")
    for job in service.client.get("/v1/jobs").json()["jobs"]:
        service.client.delete(f"/v1/jobs/{job['id']}")
    page.locator("#work").wait_for(state="hidden")


def test_everything_goes_by_keyboard(page: Any, service: Service) -> None:
    service.made("generate", prompt="slow piano", duration_s=2.0)
    page.reload()
    page.wait_for_selector("html[data-ready]")
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name = page.evaluate("() => document.activeElement.id || document.activeElement.className")
        if name == "open":
            page.keyboard.press("Enter")
            page.get_by_role("group", name="What to do with this take").wait_for()
            break
        reached.append(name)
    assert {"prompt", "make", "seed", "new-seed", "upload"} <= set(reached), reached
    page.evaluate("() => document.activeElement.blur()")
    page.locator("#play[aria-label=Pause]").wait_for()
    page.keyboard.press(" ")
    page.locator("#play[aria-label=Play]").wait_for()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => document.querySelector('#time').textContent === '0:00 / 0:02'")


def test_on_a_phone(phone: Any, service: Service) -> None:
    wide = phone.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= PHONE["width"], "nothing stands out to the side"
    phone.get_by_label("What is it like?").fill(
        "slow piano with a prompt that is longer than the screen of a phone is wide"
    )
    phone.get_by_label("Length, s").fill("3")
    phone.get_by_role("button", name="Make music").tap()
    phone.get_by_role("group", name="What to do with this take").wait_for()
    take_row(phone, "slow piano").wait_for()
    assert phone.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    small = phone.evaluate(
        "() => [...document.querySelectorAll('button, select, input:not(.hidden), .segments label')]"
        ".filter((one) => one.offsetParent && !['checkbox', 'radio'].includes(one.type))"
        ".filter((one) => one.getBoundingClientRect().height < 32)"
        ".map((one) => one.outerHTML.slice(0, 80))"
    )
    assert not small, "fingers are wide"
    accessible(phone)
    shot(phone, "phone")


def test_a_key_is_asked_for(browser: Any, bundle: Bundle, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "takes", api_key="a long secret") as service:
        context = browser.new_context(viewport=DESKTOP)
        page = context.new_page()
        page.goto(service.url)
        page.get_by_label("Key", exact=True).last.fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("This is not the key.").wait_for()
        accessible(page)
        page.get_by_label("Key", exact=True).last.fill("a long secret")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("html[data-ready]")
        make(page, "slow piano", "1")
        take_row(page, "slow piano").wait_for()
        page.locator("#tree .take").wait_for()
        context.close()


def test_in_the_dark(browser: Any, service: Service) -> None:
    service.made("generate", prompt="slow piano", duration_s=2.0)
    context = browser.new_context(viewport=DESKTOP, color_scheme="dark")
    page = context.new_page()
    page.goto(service.url)
    take_row(page, "slow piano").click()
    page.get_by_role("group", name="What to do with this take").wait_for()
    page.wait_for_timeout(600)
    accessible(page)
    shot(page, "dark")
    context.close()


def test_the_picture_of_the_readme(browser: Any, tmp_path: Path) -> None:
    """Made again by MUSICLM_SCREENSHOTS=docs/images and this test alone."""
    base = open_bundle("base")
    with serving(base, tmp_path / "takes") as service:
        first = service.made("generate", prompt="a celtic tune with harp and flute", duration_s=10, seed=1)
        service.made("continue", take=first["id"], prompt="with drums", duration_s=5, seed=1)
        service.made("vary", take=first["id"], strength=0.3, seed=2)
        service.made("generate", prompt="house at 124 BPM in A minor", duration_s=4, seed=1)
        for page in opened(browser, service, {"width": 1180, "height": 800}):
            page.get_by_label("What is it like?").fill("a string quartet, solemn, in D minor")
            page.locator("#tree .open").filter(has_text="with drums").click()
            page.locator("#play[aria-label=Pause]").click()
            page.wait_for_function("() => document.querySelector('#time').textContent.endsWith('0:15')")
            page.evaluate("() => document.activeElement.blur()")
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(1000)
            assert len(page.screenshot(full_page=True)) < MOST_PICTURE_BYTES
            shot(page, "studio")


# -- a melody


def open_melody(page: Any) -> None:
    page.locator("#melody > summary").click()


def made_with_melody(page: Any, service: Service, name: str) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """The take that the form makes, and the sound that it follows: mono, 24 kHz."""
    make(page, name, "1")
    take_row(page, name).wait_for()
    takes = service.client.get("/v1/takes").json()["takes"]
    (take,) = [one for one in takes if one["name"] == name]
    (sound,) = [one for one in takes if take["about"]["melody"]["hash"].startswith(one["id"])]
    assert sound["kind"] == "upload"
    take_row(page, name).click()
    page.locator("#about-take").get_by_text(f"follows {sound['name']}").wait_for()
    data = service.client.get(f"/v1/takes/{sound['id']}/sound.flac").content
    samples, rate_hz = soundfile.read(io.BytesIO(data))
    assert rate_hz == RATE_HZ and samples.ndim == 1
    return sound, samples


def loudest_hz(samples: np.ndarray[Any, Any]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * RATE_HZ / len(samples))


def test_a_melody_is_hummed(hearing: Any, follower: Service) -> None:
    page = hearing
    open_melody(page)
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_function("() => document.querySelector('#recording output').textContent === '0:02 of 0:30'")
    assert 0.6 < float(page.get_by_label("Level of the microphone").evaluate("meter => meter.value")) < 1
    page.get_by_role("button", name="Stop recording").click()
    page.locator("#melody-shown").get_by_text(re.compile("^Hummed at .*, 0:[0-3][0-9]$")).wait_for()
    page.get_by_role("button", name="Play the melody").click()
    page.get_by_role("button", name="Stop the melody").click()
    assert follower.client.get("/v1/takes").json()["takes"] == [], "it is sent when it is needed"
    sound, samples = made_with_melody(page, follower, "slow piano")
    assert sound["name"].startswith("Hummed at ") and 2 <= sound["duration_s"] <= 30
    assert loudest_hz(samples) == pytest.approx(330, abs=2), "what the microphone heard"
    page.get_by_role("button", name="Remove the melody").click()
    make(page, "no melody", "1")
    take_row(page, "no melody").wait_for()
    (other,) = [take for take in follower.client.get("/v1/takes").json()["takes"] if take["name"] == "no melody"]
    assert not other["about"].get("melody")
    take_row(page, sound["name"]).click()
    page.get_by_role("button", name="Follow its melody").click()
    assert page.locator("#melody-short").inner_text().startswith(": Hummed at ")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    page.locator("#melody-shown").wait_for(state="hidden")


def test_a_melody_is_played_on_keys(hearing: Any, follower: Service) -> None:
    page = hearing
    open_melody(page)
    page.get_by_role("button", name="Keys", exact=True).click()
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "C 4"
    assert page.get_by_role("button", name="Use these notes").is_disabled()
    for key, steps in ((" ", 0), (" ", 9)):  # C4, then by arrows A4, which is 440 Hz
        for _ in range(steps):
            page.keyboard.press("ArrowRight")
        page.keyboard.down(key)
        page.wait_for_timeout(800)
        page.keyboard.up(key)
    page.keyboard.down("y")  # the computer's key of A5
    page.wait_for_timeout(800)
    assert page.get_by_role("button", name="A 5", exact=True).get_attribute("data-down") == "true"
    page.keyboard.up("y")
    key = page.get_by_role("button", name="D sharp 4").bounding_box()
    page.mouse.move(key["x"] + key["width"] / 2, key["y"] + 10)
    page.mouse.down()
    page.wait_for_timeout(800)
    page.mouse.up()
    page.locator("#keys output").get_by_text(re.compile("^4 notes, 0:0[3-9] of 0:30$")).wait_for()
    accessible(page)
    shot(page, "melody-keys")
    page.get_by_role("button", name="Use these notes").click()
    page.locator("#melody-shown").get_by_text(re.compile("^Played at ")).wait_for()
    assert page.locator("#keys").is_hidden()
    accessible(page)
    shot(page, "melody")
    _, samples = made_with_melody(page, follower, "slow piano")
    heard = [loudest_hz(samples[at : at + 4800]) for at in range(0, len(samples) - 4800, 4800)]
    places = [
        min((at for at, hz in enumerate(heard) if abs(hz - note) < 6), default=-1) for note in (262, 440, 880, 311)
    ]
    assert places[0] >= 0 and places == sorted(places) and len(set(places)) == 4, heard


def test_a_melody_comes_from_a_file(hearing: Any, follower: Service, tmp_path: Path) -> None:
    page = hearing
    (tmp_path / "humming.mp3").write_bytes(tone(1.5, kind="MP3"))
    (tmp_path / "letter.mp3").write_bytes(b"Dear sound file")
    (tmp_path / "silence.wav").write_bytes(tone(1.5, level=0.0))
    open_melody(page)
    page.get_by_label("Choose a file").set_input_files(tmp_path / "letter.mp3")
    page.get_by_role("alert").get_by_text("The upload is no sound that can be read here").wait_for()
    page.get_by_label("Choose a file").set_input_files(tmp_path / "silence.wav")
    page.locator("#melody-shown").get_by_text("silence.wav, 0:01").wait_for()
    make(page, "slow piano", "1")
    page.get_by_role("alert").get_by_text("is silent; there is no melody to follow").wait_for()
    page.get_by_label("Choose a file").set_input_files(tmp_path / "humming.mp3")
    page.locator("#melody-shown").get_by_text("humming.mp3, 0:01").wait_for()
    sound, samples = made_with_melody(page, follower, "slow piano")
    assert sound["name"] == "humming.mp3" and loudest_hz(samples) == pytest.approx(330, abs=2)
    page.get_by_label("Choose a file").set_input_files(write_midi(tmp_path / "tune.mid", [(0.0, 1.5, 69, 0)]))
    page.locator("#melody-shown").get_by_text("tune.mid, 0:01").wait_for()
    sound, samples = made_with_melody(page, follower, "fast music")
    assert sound["verb"] == "midi" and loudest_hz(samples) == pytest.approx(440, abs=2)
    take_row(page, "tune.mid").click()
    page.locator("#badge").get_by_text("MIDI file").wait_for()
    names = page.locator("#actions > button").all_inner_texts()
    assert names[0] == "Follow its melody" and not {"Continue", "Repaint", "Vary", "Loop"} & set(names)


def test_what_goes_on_and_stories_follow_a_melody_too(hearing: Any, follower: Service, tmp_path: Path) -> None:
    page = hearing
    make(page, "slow piano", "1")
    take_row(page, "slow piano").wait_for()
    take_row(page, "slow piano").click()
    page.locator("#actions").get_by_role("button", name="Continue").click()
    open_melody(page)
    page.get_by_label("Choose a file").set_input_files(write_midi(tmp_path / "tune.mid", [(0.0, 1.5, 69, 0)]))
    page.locator("#melody-shown").get_by_text("tune.mid, 0:01").wait_for()
    page.get_by_label("Length, s").fill("1")
    page.get_by_role("button", name="Continue it").click()
    until(lambda: [one for one in takes_of(follower) if one["verb"] == "continue"])
    page.get_by_role("button", name="New music instead").click()
    page.get_by_text("Story", exact=True).click()
    assert page.locator("#melody-short").inner_text() == ": tune.mid, 0:01", "until it is removed"
    page.get_by_label("Length, s").fill("2")
    page.get_by_label("From", exact=True).nth(1).fill("0:01")
    page.get_by_label("From", exact=True).nth(1).press("Enter")
    page.get_by_role("button", name="Tell the story").click()
    until(lambda: [one for one in takes_of(follower) if one["verb"] == "story"])
    told = {one["verb"]: one["about"].get("melody") for one in takes_of(follower) if one["kind"] == "take"}
    assert told["generate"] is None
    for verb in ("continue", "story"):
        assert told[verb]["name"].endswith(".mid"), verb


def takes_of(service: Service) -> list[dict[str, Any]]:
    return list(service.client.get("/v1/takes").json()["takes"])


def test_without_a_microphone_the_page_says_so(browser: Any, follower: Service) -> None:
    for refused, line in (
        ("", "The microphone is not allowed here."),  # nobody has allowed it
        (
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError') }",
            "There is no",
        ),
        ("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})", "at localhost or over https only"),
    ):
        for page in opened(browser, follower, DESKTOP):
            page.evaluate(f"() => {{ {refused} }}")
            open_melody(page)
            page.get_by_role("button", name="Record", exact=True).click()
            page.get_by_role("alert").get_by_text(line).wait_for()
            assert page.locator("#recording").is_hidden()


def test_keys_are_wide_enough_for_fingers(browser: Any, follower: Service) -> None:
    for phone in opened(browser, follower, PHONE, has_touch=True, is_mobile=True, device_scale_factor=2):
        open_melody(phone)
        phone.get_by_role("button", name="Keys", exact=True).tap()
        for name in ("C 4", "B 5"):
            phone.get_by_role("button", name=name, exact=True).tap()
        phone.locator("#keys output").get_by_text("2 notes").wait_for()
        assert phone.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
        widths = phone.locator(".octave .white").evaluate_all("keys => keys.map(key => key.clientWidth)")
        assert len(widths) == 14 and min(widths) >= 36
        accessible(phone)
        shot(phone, "melody-phone")


def test_a_model_that_follows_none_says_so(browser: Any, unsteered: Bundle, tmp_path: Path) -> None:
    with serving(unsteered, tmp_path / "takes", capacity=3) as running:
        for page in opened(browser, running, DESKTOP):
            open_melody(page)
            page.get_by_text("The model mock can't follow a melody.").wait_for()
            assert page.get_by_role("button", name="Record", exact=True).count() == 0
            assert page.get_by_label("Choose a file").is_hidden()
            accessible(page)
