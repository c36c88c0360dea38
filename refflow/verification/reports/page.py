"""A report as one HTML page: verdict, failures with their reproduction, the table of checks, pictures.

No script, no font, no address outside: the page can be mailed, archived and printed. Statuses have symbols beside their
colours (Okabe and Ito's, which colour-blind readers tell apart).
"""

import math
from html import escape

from refflow.verification.replaying import reproduction
from refflow.verification.reports.figures import Figure, figures
from refflow.verification.reports.junit import legal
from refflow.verification.reports.report import Outcome, Report
from refflow.verification.reports.style import STYLE

SYMBOLS = {
    "pass": "\u2713", "fail": "\u2717", "warn": "!", "inconclusive": "?", "blocked": "\u2298", "skipped": "\u2013",
    "xfail": "(\u2717)", "xpass": "(\u2713)",
}  # fmt: skip

DOT = " \u00b7 "

NOT_DRAWN = {
    "jacobian": "Jacobian", "log_det": "claimed log-determinants", "pit": "encoded samples", "knot": "kink",
}  # fmt: skip


def page(report: Report) -> str:
    """The report as HTML."""
    parts = [_head(report), _banner(report), _failures(report), _pictures(report), _table(report), _foot(report)]
    return legal("\n".join(part for part in parts if part) + "\n</main>\n</body>\n</html>\n")


def _head(report: Report) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(report.target)}: refflow verify</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>"
    )


def verdict(report: Report) -> tuple[str, str, str]:
    """(kind, word, sentence) of a report as a whole."""
    decided = len(report.of("pass", "warn", "xfail", "fail", "xpass"))
    if report.error:
        return "fail", "Not asked", "the target could not be asked"
    if failed := report.of("fail", "xpass"):
        ids = list(dict.fromkeys(check.id for check in failed))
        return "fail", "Failed", f"{len(failed)} of {decided} checks do not hold: {', '.join(ids)}"
    if not report.ok:
        return "inconclusive", "Undecided", "no check could be decided"
    if warned := report.of("warn"):
        return "warn", "Passed", f"all {decided} checks hold, {len(warned)} with a warning"
    return "pass", "Passed", f"all {decided} checks that could be asked hold"


def _banner(report: Report) -> str:
    kind, word, sentence = verdict(report)
    symbol = SYMBOLS[kind]
    facts = [f"level {report.level}", f"seed {report.seed}", f"{report.seconds:.1f} s"]
    facts += [f"{name} {version}" for name, version in report.versions.items()]
    counts = "".join(f'<li class="{s}"><b>{SYMBOLS[s]}</b> {n} {s}</li>' for s, n in report.counts.items())
    error = f'<pre class="said">{_text(report.error)}</pre>' if report.error else ""
    return (
        f'<header class="{kind}"><div class="seal" aria-hidden="true">{symbol}</div>'
        f"<div><h1>{_text(report.target)}</h1>"
        f'<p class="verdict"><b>{word}</b>: {_text(sentence)}</p>{error}'
        f'<ul class="counts">{counts}</ul>{_strips(report)}'
        f'<p class="facts">{_text(DOT.join(facts))}</p></div></header>'
    )


def _strips(report: Report) -> str:
    """Every check as a tile, a line a variant: what holds and what does not, at a glance."""
    lines = ""
    for variant in dict.fromkeys(check.variant for check in report.checks):
        tiles = "".join(_tile(check) for check in report.checks if check.variant == variant)
        lines += f'<div class="strip"><span class="facts">{_text(variant)}</span><div>{tiles}</div></div>'
    return lines


def _tile(check: Outcome) -> str:
    told = escape(f"{check.statement}: {check.status}", quote=True)
    return f'<span class="tile {check.status}" title="{told}"><b>{SYMBOLS[check.status]}</b> {check.id}</span>'


def _failures(report: Report) -> str:
    groups: dict[str, list[Outcome]] = {}
    for outcome in report.of("fail", "xpass", "warn"):
        groups.setdefault(outcome.id, []).append(outcome)
    if not groups:
        return ""
    cards = "".join(_card(outcomes, report) for outcomes in groups.values())
    return f'<section><h2>What was found</h2><div class="cards">{cards}</div></section>'


def _card(outcomes: list[Outcome], report: Report) -> str:
    """All variants of one check that did not plainly pass, and how to see the first again."""
    first = outcomes[0]
    lines = "".join(
        f'<dt class="{o.status}"><b>{SYMBOLS[o.status]} {_text(o.name)}</b> {_numbers(o)}</dt>'
        f"<dd>{_text(_short(o.explanation))}</dd>"
        for o in outcomes
    )
    hint = f'<p class="hint"><b>Look for</b> {_text(first.hint)}</p>' if first.hint else ""
    code = ""
    if first.status == "fail":
        code = f"<p>To see {_text(first.name)} again:</p><pre>{_text(reproduction(first, report))}</pre>"
    return (
        f'<article class="{first.status}"><h3><span class="id">{first.id}</span> {_text(first.statement)}</h3>'
        f"<dl>{lines}</dl>{hint}{code}</article>"
    )


def _short(words: str, most: int = 320) -> str:
    """Long rows are in the reproduction and in the JSON form."""
    return words if len(words) <= most else words[:most] + " \u2026"


def _numbers(outcome: Outcome) -> str:
    if outcome.statistic is None or not outcome.tolerance or math.isnan(outcome.statistic):
        return ""
    return f"{outcome.statistic:.3g}, allowed {outcome.tolerance:.3g}"


def _table(report: Report) -> str:
    """Checks down, variants across."""
    if not report.checks:
        return ""
    variants = list(dict.fromkeys(check.variant for check in report.checks))
    found = {(check.id, check.variant): check for check in report.checks}
    head = "".join(f"<th>{_text(variant) or 'verdict'}</th>" for variant in variants)
    rows = ""
    for id, check in {check.id: check for check in report.checks}.items():
        cells = "".join(_cell(found.get((id, variant))) for variant in variants)
        rows += (
            f'<tr><th scope="row"><span class="id">{id}</span> <span>{_text(check.statement)}</span></th>{cells}</tr>'
        )
    return (
        '<section><h2>Every check</h2><div class="wide"><table><thead><tr><th>what a correct flow obeys</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "<td></td>"
    small = outcome.explanation if outcome.status in ("skipped", "blocked", "inconclusive") else ""
    if outcome.status in ("pass", "fail", "warn") and outcome.tolerance:
        small = f"{outcome.statistic:.2g} of {outcome.tolerance:.2g}"
    title = escape(f"{outcome.explanation} ({outcome.seconds:.2f} s)".strip(), quote=True)
    return (
        f'<td class="{outcome.status}" title="{title}"><b>{SYMBOLS[outcome.status]}</b> {outcome.status}'
        f"<small>{_text(small)}</small></td>"
    )


def _pictures(report: Report) -> str:
    drawn = "".join(map(_picture, figures(report.figures)))
    missing = report.figures.get("missing", {})
    absent = "; ".join(f"{NOT_DRAWN.get(name, name)} ({reason})" for name, reason in missing.items())
    note = f'<p class="facts">Not drawn: {_text(absent)}.</p>' if absent else ""
    return f'<section><h2>Pictures</h2><div class="pictures">{drawn}</div>{note}</section>' if drawn or note else ""


def _picture(figure: Figure) -> str:
    symbol, kind = (SYMBOLS["fail"], "fail") if figure.alarming else (SYMBOLS["pass"], "pass")
    return (
        f"<figure><h3>{_text(figure.title)}</h3>{figure.svg}<figcaption><b>Right:</b> {_text(figure.right)}<br>"
        f'<span class="{kind}"><b>{symbol} Here:</b></span> {_text(figure.here)}</figcaption></figure>'
    )


def _foot(report: Report) -> str:
    notes = "".join(f"<li>{_text(remark)}</li>" for remark in report.remarks)
    section = f"<section><h2>Notes</h2><ul>{notes}</ul></section>" if notes else ""
    return (
        f'{section}<footer class="facts">\u03c1 is the error in units of what one rounding can do at that point; '
        "up to 16 passes, more is lossy if it shrinks with the precision and a fault if it does not. Inconclusive: too "
        "ill-conditioned, or out of time. Blocked: rests on a check that failed.</footer>"
    )


def _text(words: object) -> str:
    return escape(str(words))
