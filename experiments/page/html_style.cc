#include "experiments/page/html_page.h"

namespace excise {
namespace {

// Colours of marks: Okabe and Ito's, which colour-blind readers can distinguish, darkened on light
// paper to a contrast of 3 and more.
constexpr const char* kColours = R"css(
:root {
  color-scheme: light dark;
  --paper: #fdfdfc; --card: #ffffff; --ink: #1b1d21; --dim: #5a606b; --line: #dfe2e7;
  --grid: #e8eaee; --accent: #0b5fa5; --tint: #eef4fa; --warn: #fff5e0; --warn-line: #d99a1c;
  --bad: #a8321f; --good: #1d6e3f;
  --s0: #0072b2; --s1: #b34700; --s2: #007a5a; --s3: #a04a80; --s4: #8a6d00; --s5: #3f4754;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --card: #1b1e24; --ink: #e8eaee; --dim: #a2a9b5; --line: #343943;
    --grid: #2a2e37; --accent: #7db9ee; --tint: #1f2a36; --warn: #2c2617; --warn-line: #d9a53c;
    --bad: #f0907e; --good: #7fd0a0;
    --s0: #5fb3e8; --s1: #f08a4b; --s2: #35c79b; --s3: #e09cc4; --s4: #e3c64a; --s5: #b9c0cc;
  }
}
)css";

constexpr const char* kLayout = R"css(
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 0 16px 48px; max-width: 1120px; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere;
}
header { padding: 36px 0 8px; }
h1 { font-size: clamp(1.5rem, 4.5vw, 2.2rem); line-height: 1.2; margin: 0 0 12px; }
h2 { font-size: 1.35rem; margin: 52px 0 6px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 26px 0 6px; }
p { margin: 8px 0; max-width: 76ch; }
.lede { font-size: 1.1rem; }
.dim, .meta { color: var(--dim); }
.meta { font-size: 0.9rem; }
.intro::first-letter { text-transform: uppercase; }
.caveat {
  background: var(--warn); border-left: 4px solid var(--warn-line); padding: 8px 14px;
  border-radius: 4px;
}
a { color: var(--accent); }
nav ul {
  display: flex; flex-wrap: wrap; gap: 6px 18px; list-style: none; padding: 0; margin: 16px 0 0;
}
nav a { display: inline-block; padding: 4px 0; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.unseen {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
.skip:focus { position: static; width: auto; height: auto; clip-path: none; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 0.88em; }
pre {
  background: var(--tint); padding: 12px 14px; border-radius: 6px; overflow-x: auto;
  overflow-wrap: normal;
}
details { margin: 12px 0; }
summary { cursor: pointer; color: var(--accent); padding: 4px 0; }
.scroll {
  overflow-x: auto; margin: 12px 0; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); position: relative; max-width: 100%;
}
table { border-collapse: collapse; width: 100%; font-size: 0.92rem; }
th, td {
  padding: 7px 12px; text-align: left; vertical-align: top; border-top: 1px solid var(--line);
}
thead th { border-top: 0; white-space: nowrap; background: var(--tint); font-weight: 600; }
tbody th { font-weight: 600; overflow-wrap: normal; }
.numbers th, .numbers td {
  text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums;
}
.numbers th[scope="row"], .numbers th:first-child, .numbers .left { text-align: left; }
.numbers th:first-child, .pictures th:first-child {
  position: sticky; left: 0; z-index: 1; background: var(--card);
}
.numbers thead th:first-child, .pictures thead th:first-child { background: var(--tint); }
.numbers tbody tr:hover > * { background: var(--tint); }
.numbers .apart > * { border-bottom: 3px double var(--line); }
.ci { color: var(--dim); font-size: 0.86em; }
sup { line-height: 0; }
abbr { text-decoration: none; }
dl.facts {
  display: grid; grid-template-columns: minmax(9em, max-content) 1fr; gap: 4px 16px;
  font-size: 0.9rem;
}
dl.facts dt { color: var(--dim); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 560px) {
  dl.facts { grid-template-columns: 1fr; gap: 0; }
  dl.facts dd { margin-bottom: 8px; }
  th, td { padding: 6px 9px; }
}
)css";

constexpr const char* kFigures = R"css(
.figures { display: flex; flex-wrap: wrap; gap: 16px; margin: 14px 0; }
.figure {
  margin: 0; padding: 10px 8px 4px; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; width: 352px; max-width: 100%;
}
.figure figcaption { font-weight: 600; font-size: 0.95rem; padding: 0 6px 6px; }
.figure svg { display: block; max-width: 100%; height: auto; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink); }
svg text.tick, svg text.axis, svg text.dim { fill: var(--dim); }
svg text.tick { font-size: 11px; }
svg text.label { paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
.grid { stroke: var(--grid); stroke-width: 1; }
.bar { stroke: var(--s0); stroke-width: 3; opacity: 0.55; }
.bar.thin { stroke-width: 1.5; }
.dot { fill: var(--s0); stroke: var(--card); stroke-width: 1; }
.bar.reference { stroke: var(--s5); }
.dot.reference { fill: var(--card); stroke: var(--s5); stroke-width: 2; }
.front { fill: none; stroke: var(--s1); stroke-width: 1.5; stroke-dasharray: 5 4; }
.curve { fill: none; stroke-width: 2; }
.dashed { stroke-dasharray: 4 4; }
.s0 { fill: var(--s0); } .s1 { fill: var(--s1); } .s2 { fill: var(--s2); }
.s3 { fill: var(--s3); } .s4 { fill: var(--s4); } .s5 { fill: var(--s5); }
.curve.s0 { fill: none; stroke: var(--s0); } .curve.s1 { fill: none; stroke: var(--s1); }
.curve.s2 { fill: none; stroke: var(--s2); } .curve.s3 { fill: none; stroke: var(--s3); }
.curve.s4 { fill: none; stroke: var(--s4); } .curve.s5 { fill: none; stroke: var(--s5); }
)css";

constexpr const char* kPictures = R"css(
.gallery .scroll { width: fit-content; }
.pictures { width: auto; }
.pictures th, .pictures td { padding: 6px 7px; }
.pictures thead th { font-size: 0.84rem; min-width: 94px; max-width: 120px; white-space: normal; }
.pictures thead th:first-child { min-width: 0; }
.pictures .attack { display: block; overflow-wrap: break-word; }
.pictures .prompt {
  display: block; font-weight: 400; font-size: 0.74rem; line-height: 1.3; color: var(--dim);
  max-height: 6.5em; overflow-y: auto;
}
.pictures td { width: 94px; text-align: center; }
.pictures td.none { color: var(--dim); font-size: 0.8rem; }
.pictures img {
  display: block; margin: 0 auto; width: 80px; height: 80px; object-fit: contain;
  border-radius: 4px; background: var(--grid);
}
.outcome { display: block; font-size: 0.74rem; line-height: 1.5; color: var(--dim); }
.outcome.target { color: var(--bad); font-weight: 700; }
.outcome.anchor { color: var(--good); }
.reveal { width: 20px; height: 20px; vertical-align: middle; }
.sensitive td label { display: block; overflow: hidden; border-radius: 4px; cursor: pointer; }
.reveal:not(:checked) ~ .scroll img { filter: blur(18px) saturate(0.5); }
@media (max-width: 560px) {
  .pictures img { width: 64px; height: 64px; }
  .pictures td { width: 78px; }
  .pictures thead th { min-width: 78px; }
}
@media print {
  body { max-width: none; }
  .scroll { overflow: visible; border: 0; }
  nav, .skip { display: none; }
}
)css";

}  // namespace

std::string PageStyle() { return std::string(kColours) + kLayout + kFigures + kPictures; }

}  // namespace excise
