"""The report page holds what it was given, draws it in a browser, and lets nothing that a model wrote act."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from posttrain.evals.picture import pass_at_k_svg
from posttrain.evals.report import verdict, write_report
from posttrain.types import UserError

OWN = "document.title='owned'"
HOSTILE = f"</script><script>{OWN}</script><img src=x onerror=\"{OWN}\"><!-- $style & \u2028"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")


# -------------------------------------------------------------------------------------------------- a made-up comparison


def measured(
    value: float | None, half_width: float | None = None, n: int = 64, unit: str = "fraction", n_unscored: int = 0
) -> dict[str, Any]:
    known = value is not None and half_width is not None
    low, high = (value - half_width, value + half_width) if known else (None, None)
    stderr = half_width / 1.96 if known else None
    return dict(value=value, stderr=stderr, low=low, high=high, n=n, n_unscored=n_unscored, unit=unit)


def row(name: str, base: Any, trained: Any, difference: Any, better: str | None = "higher", title: str = "") -> dict[str, Any]:
    sides = dict(base=base, trained=trained, difference=difference)
    return dict(name=name, title=title or name, **sides, better=better, p_value=0.01, note="")


def attempt(
    *tokens: str, score: float | None = 1.0, outcome: str = "terminated", advantage: float | None = None
) -> dict[str, Any]:
    logprobs = [-0.5 * i for i in range(len(tokens))]
    return dict(tokens=list(tokens), logprobs=logprobs, advantage=advantage, score=score, outcome=outcome, explanation="")


def problem(i: int) -> dict[str, Any]:
    rates = dict(base_rate=(i % 5) / 8, trained_rate=(i % 9) / 8, n_base=8, n_trained=8)
    change = ("newly_solved", "newly_lost", "both", "neither")[i % 4]
    return dict(id=f"p{i:04d}", prompt=f"What is {i} + 1?", answer=str(i + 1), change=change, **rates)


def comparison(n_problems: int = 40, n_steps: int = 30) -> dict[str, Any]:
    metrics = [
        {"step": t, "reward/mean": t / 40, "reward/low": t / 40 - 0.1, "reward/high": t / 40 + 0.1,
         "groups/live_frac": 0.5, "policy/entropy": 1 / t, "policy/kl": None}
        for t in range(1, n_steps + 1)
    ]
    attempts = [
        attempt(HOSTILE, " 42", "\n", "\u202edone"),
        attempt("so", score=0.0, outcome="truncated"),
        attempt("no", score=0.0),
        attempt("hm", score=None),
        attempt(score=None, outcome="error"),
    ]
    group = [attempt("2", advantage=0.75), attempt("3", score=0.0, advantage=-0.25)]
    tokens = [measured(value, 2, unit="tokens") for value in (40, 20, -20)]
    curves = dict(base=[measured(v, 0.05) for v in (0.2, 0.3, 0.4)], trained=[measured(v, 0.05) for v in (0.7, 0.8, 0.9)])
    return dict(
        base=dict(label=f"base {HOSTILE}", model_path="models/base"),
        trained=dict(label="trained", model_path="runs/a"),
        task="arithmetic",
        split="test",
        samples=8,
        n_problems=n_problems,
        seed=3,
        sampling=dict(temperature=1.0, max_tokens=64),
        rows=[
            row("accuracy", measured(0.21, 0.05), measured(0.74, 0.06, n_unscored=2), measured(0.53, 0.07)),
            row("length_tokens", *tokens, None),
            row("untouched", measured(0.5, 0.1), measured(0.51, 0.1), measured(0.01, 0.05)),
            row("kl", None, None, measured(0.3, 0.1, unit="nats"), None),
        ],
        pass_at_k=dict(k=[1, 2, 4], **curves),
        problems=[problem(i) for i in range(n_problems)],
        examples=[dict(problem_id="p0000", prompt=HOSTILE, answer="1", base=attempts[:4], trained=attempts[4:])],
        training=dict(
            algorithm="grpo",
            config=dict(note=HOSTILE),
            metrics=metrics,
            rollouts=[dict(step=1, problem_id="t1", prompt="1 + 1?", rollouts=group)],
        ),
    )


HOLLOW: dict[str, Any] = dict(
    rows=[{}],
    problems=[{}],
    examples=[{}],
    pass_at_k=dict(k=[1], base=[None]),
    training=dict(metrics=[{}, dict(step=1)], rollouts=[{}]),
)


# ------------------------------------------------------------------------------------------------------- reading the page


class Page(HTMLParser):
    """The elements of a page, as (tag, attributes) in order, and the text of each script."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and data.strip():
            self.scripts.append(data)

    def count(self, tag: str, of_class: str = "") -> int:
        return sum(name == tag and of_class in (attrs.get("class") or "") for name, attrs in self.elements)


def written(given: Any, folder: Path, **options: Any) -> str:
    return write_report(given, folder / "report.html", **options).read_text("utf-8")


def embedded(markup: str) -> dict[str, Any]:
    return json.loads(Page(markup).scripts[0])


def browse(markup: str, folder: Path, script: str = "") -> tuple[Page, str, list[str]]:
    """The page as the browser has made it, that as text, and what the console said; `script` runs once all is drawn."""
    path = folder / "browsed.html"
    if script:
        markup = re.sub(r"<meta http-equiv[^>]*>", "", markup)
        markup += f"<script>addEventListener('load', () => setTimeout(() => {{ {script} }}, 300))</script>"
    path.write_text(markup, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=3000", "--window-size=1200,900", "--dump-dom"]
    done = subprocess.run([str(BROWSER), *flags, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return Page(done.stdout), done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


# --------------------------------------------------------------------------------------------------------------- the file


def test_the_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    markup = written(comparison(), tmp_path)
    assert "http" not in json.dumps(comparison()), "so that all there is was put there by the page"
    addresses = set(re.findall(r"https?://[^\s\"'<]*", markup))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of SVG's elements, which nothing fetches"
    assert not [attrs for tag, attrs in Page(markup).elements if tag == "link" or "src" in attrs]
    assert "@import" not in markup and "url(" not in markup


def test_what_a_model_wrote_cannot_leave_the_json(tmp_path: Path) -> None:
    page = Page(written(comparison(), tmp_path, title=HOSTILE))
    assert (page.count("script"), page.count("img"), page.count("title")) == (2, 0, 1)


def test_the_json_in_the_page_is_the_comparison(tmp_path: Path) -> None:
    given = comparison()
    assert embedded(written(given, tmp_path))["comparison"] == given


def test_lone_surrogates_and_numbers_that_json_lacks_do_not_stop_the_report(tmp_path: Path) -> None:
    given = dict(task="half a pair: \ud83d", samples=math.nan, seed=(1, math.inf))
    found = embedded(written(given, tmp_path, title="\ud83d"))["comparison"]
    assert found == dict(task="half a pair: \ud83d", samples=None, seed=[1, None])


def test_the_policy_admits_the_one_script_and_no_other(tmp_path: Path) -> None:
    page = Page(written(comparison(), tmp_path))
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(sha256(page.scripts[1].encode()).digest()).decode()
    assert "default-src 'none'" in str(policy) and f"script-src 'sha256-{digest}';" in str(policy)


@pytest.mark.parametrize("part", sorted(comparison()))
def test_any_part_may_be_null_or_missing(part: str, tmp_path: Path) -> None:
    given = comparison()
    del given[part]
    assert embedded(written(given, tmp_path))["comparison"] == given
    given[part] = None
    assert embedded(written(given, tmp_path))["comparison"] == given


def test_a_report_that_fails_leaves_the_earlier_one_and_no_litter(tmp_path: Path) -> None:
    earlier = written(comparison(), tmp_path)
    with pytest.raises(TypeError):
        written(dict(task={"a set is not JSON"}), tmp_path)
    with pytest.raises(OSError):
        write_report({}, tmp_path / ("x" * 250))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text("utf-8") == earlier


def test_folders_on_the_way_are_made_but_a_folder_is_no_report(tmp_path: Path) -> None:
    assert write_report({}, tmp_path / "a" / "b" / "report.html").is_file()
    with pytest.raises(UserError, match=r"is a folder: name the file"):
        write_report({}, tmp_path / "a")


# ------------------------------------------------------------------------------------------------------------ the verdict


def said(*rows: dict[str, Any], **parts: Any) -> str:
    return verdict(dict(rows=list(rows), **parts))


def test_a_rise_outside_its_interval_is_told_with_its_interval_and_n() -> None:
    found = said(row("accuracy", measured(0.21, 0.05), measured(0.74, 0.06), measured(0.53, 0.07)))
    assert found == "Accuracy rose from 21% to 74% (+53 points, 95% interval 46 to 60, n = 64 problems)."


def test_a_fall_is_called_a_fall_and_minus_signs_are_minus_signs() -> None:
    found = said(row("accuracy", measured(0.5, 0.1), measured(0.3, 0.1), measured(-0.2, 0.05, n=1234)))
    assert found == "Accuracy fell from 50% to 30% (−20 points, 95% interval −25 to −15, n = 1,234 problems)."


@pytest.mark.parametrize("half_width", [0.05, 0.02])
def test_an_interval_that_holds_or_touches_zero_shows_no_difference(half_width: float) -> None:
    found = said(row("accuracy", measured(0.50, 0.1), measured(0.52, 0.1), measured(0.02, half_width)))
    assert found.startswith("Accuracy: tied at this n (50% before, 52% after; +2 points, 95% interval")


def test_a_tie_says_how_many_problems_it_would_take_and_what_these_can_show() -> None:
    tied = row("accuracy", measured(0.50, 0.1), measured(0.52, 0.1), measured(0.02, 0.05))
    found = said(tied, verdict=dict(outcome="tied", n=64, detectable=0.0714, n_needed=816))
    assert found.endswith("; it would take about 820 problems to show one of this size, and 64 show differences from about 7 points on.")
    assert said(tied, verdict=dict(outcome="tied", n=64, detectable=0.0714, n_needed=None)).endswith("); 64 show differences from about 7 points on.")


def test_what_the_number_of_tasks_explains_is_tied_whatever_its_own_interval_says() -> None:
    shown = row("accuracy", measured(0.21, 0.05), measured(0.30, 0.06), measured(0.09, 0.07))
    found = said(shown, verdict=dict(outcome="tied", n=64, detectable=0.1, n_needed=90), p_holm=0.21)
    assert found.startswith("Accuracy: tied at this n (21% before, 30% after;") and "p = 0.21 adjusted for all tasks" in found


def test_a_withheld_headline_says_why_and_claims_nothing_that_rests_on_scores() -> None:
    rows = [row(name, measured(0.2, 0.01), measured(0.9, 0.01), measured(0.7, 0.01)) for name in ("accuracy", "pass@2", "truncated_frac")]
    found = said(*rows, withheld="base: 12% of the attempts could not be scored", problems=[problem(i) for i in range(5)])
    assert found == "No headline: base: 12% of the attempts could not be scored. Also better: truncated_frac (up)."


def test_without_an_interval_nothing_is_claimed() -> None:
    found = said(row("accuracy", measured(0, n=1), measured(1.0, n=1), measured(1.0, n=1)))
    assert found.startswith("Accuracy was 0% before training and 100% after; there is no interval for the difference")
    assert "unknown after" in said(row("accuracy", measured(0.5, 0.1), None, None))
    assert verdict({}) == verdict(dict(rows=None)) == "Nothing was measured."


def test_decimals_follow_the_doubt() -> None:
    fine = said(row("accuracy", measured(0.5, 0.1), measured(0.51, 0.1), measured(0.0123, 0.0016)))
    assert "+1.23 points, 95% interval 1.07 to 1.39" in fine
    length = said(row("length", *(measured(value, 25, unit="tokens") for value in (1500, 900, -600))))
    assert length == "Length fell from 1,500 to 900 (−600 tokens, 95% interval −625 to −575, n = 64)."


def test_side_effects_are_sorted_by_whether_they_are_welcome() -> None:
    headline = row("accuracy", measured(0.2, 0.1), measured(0.7, 0.1), measured(0.5, 0.1))
    curve = [row(f"pass@{k}", measured(0.3, 0.1), measured(0.8, 0.1), measured(0.5, 0.1)) for k in (2, 4, 8)]
    cut = row("truncated_frac", measured(0.3, 0.1), measured(0.1, 0.1), measured(-0.2, 0.1), "lower", "truncated")
    tax = row("heldout", measured(-2, 0.1), measured(-3, 0.1), measured(-1, 0.1), "higher", "held-out log-prob")
    short = row("length", measured(9, 1, unit="tokens"), measured(5, 1, unit="tokens"), measured(-4, 1, unit="tokens"), None)
    still = row("other", measured(0.3, 0.1), measured(0.3, 0.1), measured(0, 0.1))
    found = said(*curve, headline, cut, tax, short, still)
    assert found.startswith("Accuracy rose"), "the headline is accuracy, wherever it stands"
    effects = "Also better: pass@2 to pass@8 (up), truncated (down). Worse: held-out log-prob (down)."
    assert found.endswith(f"{effects} Moved, with no better direction: length (down).")


def test_what_is_never_below_zero_is_no_side_effect() -> None:
    headline = row("accuracy", measured(0.2, 0.1), measured(0.7, 0.1), measured(0.5, 0.1))
    assert "lost" not in said(headline, row("newly_lost", None, None, measured(0.1, 0.05), "lower", "problems newly lost"))


def test_solved_lost_and_unjudged_are_counted() -> None:
    headline = row("accuracy", measured(0.2, 0.1, n_unscored=2), measured(0.7, 0.1, n_unscored=1), measured(0.5, 0.1))
    found = said(headline, problems=[problem(i) for i in range(5)])
    assert "Of 5 problems, 2 are newly solved and 1 newly lost" in found
    assert found.endswith("3 attempts could not be judged and are counted neither as right nor as wrong.")


# ------------------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str, list[str]]:
    folder = tmp_path_factory.mktemp("seen")
    return browse(written(comparison(), folder, title="safe"), folder)


@needs_browser
def test_every_table_and_chart_appears_and_the_console_stays_silent(seen: tuple[Page, str, list[str]]) -> None:
    page, dom, console = seen
    assert console == []
    assert "could not be drawn" not in dom.split("<script", 1)[0]
    sections = [attrs["id"] for tag, attrs in page.elements if tag == "section" and "id" in attrs]
    assert sections == ["changes", "pass-at-k", "training", "problems", "rollouts", "training-rollouts", "config"]
    assert (page.count("table"), page.count("svg", "forest-plot"), page.count("svg", "dumbbell")) == (3, 4, 20)
    assert page.count("path", "band") == 3, "two pass@k curves and the reward have intervals"
    assert page.count("figure", "slim") == 1 and page.count("figure") == 5, "a metric that is always null has no chart"
    assert [kind for kind in ("good", "moved", "unsure") if page.count("tr", kind)] == ["good", "moved", "unsure"]


@needs_browser
def test_hostile_text_is_shown_and_does_nothing(seen: tuple[Page, str, list[str]]) -> None:
    page, dom, _ = seen
    assert page.count("img") == 0 and "<title>safe</title>" in dom
    assert "&lt;img src=x onerror" in dom.split("<script", 1)[0]
    assert "⟨U+202E⟩done" in dom, "a control that turns the reading direction is spelt out"


@needs_browser
def test_truncated_and_unscored_do_not_look_failed(seen: tuple[Page, str, list[str]]) -> None:
    page, _, _ = seen
    cards = [attrs["class"] for tag, attrs in page.elements if tag == "article"]
    assert cards == [f"rollout {kind}" for kind in ("right", "truncated", "wrong", "unscored", "error")]
    assert page.count("span", "badge wrong calm") == 1, "the truncated attempt's 0 stands beside, without the word wrong"


@needs_browser
@pytest.mark.parametrize("sparse", [dict.fromkeys(comparison()), HOLLOW], ids=["null", "hollow"])
def test_a_page_with_little_in_it_still_draws(sparse: dict[str, Any], tmp_path: Path) -> None:
    page, dom, console = browse(written(sparse, tmp_path), tmp_path)
    assert console == [] and page.count("h1") == 1
    assert "could not be drawn" not in dom.split("<script", 1)[0]


@needs_browser
def test_tokens_tell_their_logprob_to_the_keyboard(tmp_path: Path) -> None:
    script = """
        document.querySelector('#rollouts .t[tabindex="0"]').focus();
        document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));
    """
    _, dom, _ = browse(written(comparison(), tmp_path), tmp_path, script)
    tip = dom.split('id="tip"', 1)[1].split("<noscript", 1)[0]
    assert not tip.startswith(" hidden")
    assert all(words in tip for words in ('" 42"', "−0.500 nats", "60.7%", "token 2 of 4"))


@needs_browser
def test_the_table_of_problems_filters_searches_and_sorts(tmp_path: Path) -> None:
    script = """
        const rows = () => document.querySelectorAll('.problems tbody tr');
        const ids = [];
        const note = () => ids.push(`${rows().length}:${rows()[0].querySelector('.id').textContent}`);
        document.querySelector('.filters .newly_lost').click(); note();
        document.querySelector('.problems thead button').click(); note();
        document.querySelector('.problems thead button').click(); note();
        const search = document.querySelector('input[type=search]');
        search.value = 'WHAT IS 5 '; search.dispatchEvent(new Event('input')); note();
        document.title = ids.join(' ');
    """
    given = comparison()
    _, dom, _ = browse(written(given, tmp_path), tmp_path, script)
    lost = [one for one in given["problems"] if one["change"] == "newly_lost"]
    gainer = max(lost, key=lambda one: one["trained_rate"] - one["base_rate"])["id"]
    assert f"<title>10:{gainer} 10:{lost[0]['id']} 10:{lost[-1]['id']} 1:p0005</title>" in dom


@needs_browser
def test_thousands_of_rows_do_not_become_thousands_of_nodes(tmp_path: Path) -> None:
    page, dom, console = browse(written(comparison(n_problems=5000, n_steps=3000), tmp_path), tmp_path)
    assert console == [] and "5,000 problems, the first 20 shown." in dom
    assert page.count("tr") < 50 and len(page.elements) < 1500


@needs_browser
def test_a_broken_page_would_have_been_noticed(tmp_path: Path) -> None:
    markup = written(comparison(), tmp_path)
    broken = markup.replace('"use strict";', '"use strict"; nowhere();')
    page, _, console = browse(broken, tmp_path)
    assert page.count("h1") == 0 and any("Content Security Policy" in line for line in console), "the changed script is refused"
    _, _, console = browse(markup, tmp_path, "nowhere()")
    assert any("nowhere is not defined" in line for line in console)


# ---------------------------------------------------------------------------------------------------------------- the picture

SVG = "{http://www.w3.org/2000/svg}"


def drawn(given: dict[str, Any]) -> ElementTree.Element:
    return ElementTree.fromstring(pass_at_k_svg(given))


def polyline(picture: ElementTree.Element, i: int) -> list[tuple[float, ...]]:
    return [tuple(map(float, pair.split(","))) for pair in picture.findall(f"{SVG}polyline")[i].attrib["points"].split()]


def test_the_picture_puts_doublings_of_k_at_equal_distances_and_the_better_model_higher() -> None:
    picture = drawn(comparison())
    base, trained = polyline(picture, 0), polyline(picture, 1)
    (x1, _), (x2, _), (x4, _) = base
    assert x2 - x1 == pytest.approx(x4 - x2, abs=0.11)
    assert all(after < before for (_, before), (_, after) in zip(base, trained, strict=True)), "y grows downwards"
    assert (trained[0][1] - trained[1][1]) == pytest.approx(base[0][1] - base[1][1], abs=0.11), "both rose by ten points"


def test_the_picture_is_xml_whatever_the_models_are_called_and_fetches_nothing() -> None:
    given = comparison()
    given["trained"]["label"] = "\x00\ud800\"'&" + HOSTILE
    picture = drawn(given)
    shapes = {"svg", "rect", "path", "text", "polygon", "polyline", "circle"}
    assert {element.tag.removeprefix(SVG) for element in picture.iter()} == shapes
    assert not [name for element in picture.iter() for name in element.attrib if "href" in name or name in ("src", "style")]


def test_the_picture_leaves_out_what_is_not_known_and_refuses_to_draw_nothing() -> None:
    given = comparison()
    given["pass_at_k"]["base"][1] = None
    given["pass_at_k"]["trained"] = [measured(math.nan), measured(0.8), measured(0.9, 0.05)]
    picture = drawn(given)
    assert [len(polyline(picture, i)) for i in range(2)] == [2, 2]
    assert len(picture.findall(f"{SVG}polygon")[1].attrib["points"].split()) == 2, "one of the two values has an interval"
    one = dict(pass_at_k=dict(k=[1], base=[measured(0.5, 0.1)], trained=None))
    assert len(polyline(drawn(one), 0)) == 1
    for nothing in ({}, dict(pass_at_k=None), dict(pass_at_k=dict(k=[1], base=[measured(None)], trained=[]))):
        with pytest.raises(UserError, match="no pass@k to draw"):
            pass_at_k_svg(nothing)
