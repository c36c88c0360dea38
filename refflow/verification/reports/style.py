"""The style sheet of the page: light, dark, paper and telephone."""

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --card: #fff; --ink: #1b1f24; --mute: #5c6570; --line: #dfe3e8;
  --grid: #eceff2; --good: #00795a; --bad: #c04a00; --warn: #946200; --blue: #0072b2; --orange: #d98200;
  --code: #f4f5f7; --beyond: rgb(213 94 0 / 9%); --band: rgb(0 158 115 / 17%); }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1c2026; --ink: #e7eaee; --mute: #9aa5b1;
  --line: #343b44; --grid: #2a3037; --good: #3fc79b; --bad: #ff9057; --warn: #f0b63f; --blue: #5db7ea;
  --orange: #f3b04a; --code: #12151a; --beyond: rgb(255 144 87 / 13%); --band: rgb(63 199 155 / 20%); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 20px 20px 48px; }
h1 { font-size: 1.55rem; line-height: 1.2; margin: 0 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 1.12rem; margin: 36px 0 12px; }
h3 { font-size: 1rem; margin: 0 0 8px; line-height: 1.35; }
p { margin: 6px 0; }
.pass { --tone: var(--good); } .fail, .xpass { --tone: var(--bad); } .warn { --tone: var(--warn); }
.inconclusive, .blocked, .skipped, .xfail { --tone: var(--mute); }
header { display: flex; gap: 18px; align-items: flex-start; background: var(--card); border: 1px solid var(--line);
  border-left: 8px solid var(--tone); border-radius: 10px; padding: 18px 20px; }
header > div:last-child { min-width: 0; flex: 1; }
.seal { width: 56px; height: 56px; flex: none; border-radius: 50%; background: var(--tone); color: var(--card);
  font-size: 32px; line-height: 56px; text-align: center; font-weight: 700; }
.verdict { font-size: 1.08rem; } .verdict b { color: var(--tone); }
.counts { list-style: none; display: flex; flex-wrap: wrap; gap: 6px 8px; padding: 0; margin: 10px 0 6px; }
.counts li { border: 1px solid var(--line); border-radius: 999px; padding: 1px 11px; }
.counts b, td b, dt b { color: var(--tone); }
.strip { display: flex; gap: 10px; margin: 5px 0; align-items: baseline; }
.strip > .facts { flex: none; min-width: 4.2em; } .strip > div { display: flex; flex-wrap: wrap; gap: 4px; }
.tile { font: 12px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; border: 1px solid var(--line);
  border-radius: 4px; padding: 0 6px; color: var(--mute); white-space: nowrap; } .tile b { color: var(--tone); }
.tile.pass { color: var(--ink); } .tile.skipped, .tile.blocked { border-style: dashed; }
.tile.fail, .tile.xpass { background: var(--bad); border-color: var(--bad); color: var(--card); font-weight: 700; }
.tile.fail b, .tile.xpass b { color: var(--card); } .tile.warn { border-color: var(--warn); color: var(--warn); }
footer { margin-top: 26px; }
.facts { color: var(--mute); font-size: .87rem; overflow-wrap: anywhere; }
.cards { display: grid; gap: 14px; }
article { background: var(--card); border: 1px solid var(--line); border-left: 5px solid var(--tone);
  border-radius: 8px; padding: 14px 16px; min-width: 0; }
.id { font: 600 .86em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--code);
  border: 1px solid var(--line); border-radius: 5px; padding: 1px 6px; }
dl { margin: 0; } dt { margin-top: 4px; }
dd { margin: 0 0 4px; color: var(--mute); max-height: 6.2em; overflow: auto; overflow-wrap: anywhere;
  font-size: .92rem; }
.hint { border-top: 1px solid var(--line); padding-top: 8px; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px; margin: 6px 0 0;
  overflow: auto; max-height: 18em; font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.pictures { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px;
  display: flex; flex-direction: column; min-width: 0; }
svg { width: 100%; height: auto; max-width: 560px; margin: 0 auto; display: block; }
figcaption { font-size: .88rem; margin-top: 8px; color: var(--mute); } figcaption b { color: var(--ink); }
figcaption span b { color: var(--tone); }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 7px 12px; border-bottom: 1px solid var(--line);
  font-weight: 400; }
thead th { color: var(--mute); font-size: .87rem; } tbody tr:last-child > * { border-bottom: 0; }
td { white-space: nowrap; color: var(--tone); }
td.fail, td.xpass { background: color-mix(in srgb, var(--tone) 13%, transparent); font-weight: 600; }
td.warn { background: color-mix(in srgb, var(--tone) 10%, transparent); }
td small { display: block; color: var(--mute); font-weight: 400; white-space: normal; max-width: 15em; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .tick { fill: var(--mute); }
svg .axis { font-size: 13px; } svg .note { fill: var(--mute); font-style: italic; } svg .inside { fill: var(--card); }
svg .grid { stroke: var(--grid); } svg .rule { stroke: var(--mute); fill: none; stroke-width: 1.3; }
svg .dashed { stroke-dasharray: 5 4; } svg .curve { stroke: var(--blue); fill: none; stroke-width: 2; }
svg .double { fill: var(--blue); stroke: var(--card); stroke-width: .7; }
svg .single { fill: var(--orange); stroke: var(--card); stroke-width: .7; }
svg .double.hollow { fill: none; stroke: var(--blue); stroke-width: 1.2; }
svg .single.hollow { fill: none; stroke: var(--orange); stroke-width: 1.2; }
svg .beyond { fill: var(--beyond); } svg .band { fill: var(--band); }
svg .cell { fill: color-mix(in srgb, var(--blue) var(--shade), var(--card)); stroke: var(--line); stroke-width: .5; }
svg .fine { stroke: none; } svg .cell.wrong { fill: var(--bad); }
svg .cell.broken { fill: var(--bad); fill-opacity: .5; }
@media (max-width: 620px) { main { padding: 10px 10px 32px; } header { padding: 14px; gap: 12px; }
  .seal { width: 40px; height: 40px; line-height: 40px; font-size: 23px; } h1 { font-size: 1.25rem; }
  th, td { padding: 6px 8px; } th[scope=row] span + span { display: block; font-size: .84rem; color: var(--mute); }
  td small { max-width: 9em; } .strip { display: block; } figure, article { padding: 12px; } }
@media print { :root { color-scheme: light; --paper: #fff; --card: #fff; --ink: #000; --mute: #444; --line: #ccc;
  --grid: #eee; --good: #00795a; --bad: #c04a00; --warn: #946200; --blue: #0072b2; --orange: #d98200; --code: #f6f6f6;
  --beyond: rgb(213 94 0 / 9%); --band: rgb(0 158 115 / 17%); }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } body { font-size: 11pt; }
  figure, article, tr, header { break-inside: avoid; } pre, dd { max-height: none; white-space: pre-wrap; }
  .pictures { grid-template-columns: 1fr 1fr; } }
"""
