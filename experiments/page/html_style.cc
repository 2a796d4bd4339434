#include "experiments/page/html_style.h"

#include <fmt/format.h>

namespace excise {
namespace {

struct Colour {
  const char *name, *light, *dark;
};

// k0 to k5 are of rows, ref of reference rows: chosen so that any two stay apart for readers who
// see no red or no green, and each from the ground (figures_test.cc measures both). heat: the
// ground of the highest rate. out-*: of what is drawn instead of the target, with the ink on it.
constexpr Colour kColours[] = {
    {"paper", "#fdfdfc", "#14161a"},       {"card", "#ffffff", "#1b1e24"},
    {"ink", "#1b1d21", "#e8eaee"},         {"dim", "#5a606b", "#a2a9b5"},
    {"line", "#dfe2e7", "#343943"},        {"grid", "#e8eaee", "#2a2e37"},
    {"accent", "#0b5fa5", "#7db9ee"},      {"tint", "#eef4fa", "#1f2a36"},
    {"warn", "#fff5e0", "#2c2617"},        {"warn-line", "#d99a1c", "#d9a53c"},
    {"bad", "#a8321f", "#f0907e"},         {"good", "#1d6e3f", "#7fd0a0"},
    {"shade", "#00000038", "#ffffff40"},   {"ref", "#3f4754", "#eef0f4"},
    {"k0", "#027fc8", "#8fb4ff"},          {"k1", "#9d3c2a", "#d4602a"},
    {"k2", "#2d9e73", "#5fe09a"},          {"k3", "#90248d", "#bd6f9c"},
    {"k4", "#b16800", "#f3e24e"},          {"k5", "#310c86", "#6a66f2"},
    {"heat", "#7d1f0a", "#e88040"},        {"cold-ink", "#000000", "#ffffff"},
    {"hot-ink", "#ffffff", "#000000"},     {"out-target", "#a8321f", "#f0907e"},
    {"ink-target", "#ffffff", "#000000"},  {"out-anchor", "#14688c", "#3f9cc4"},
    {"ink-anchor", "#ffffff", "#000000"},  {"out-other", "#a9d3e6", "#1f5570"},
    {"ink-other", "#000000", "#ffffff"},   {"out-garbage", "#6a6e77", "#8d929c"},
    {"ink-garbage", "#ffffff", "#000000"}, {"out-blocked", "#d5d8de", "#454b57"},
    {"ink-blocked", "#000000", "#ffffff"},
};

// ":root { --paper: ...; }" without what surrounds the declarations.
std::string Declarations(const char* Colour::*scheme) {
  std::string out;
  for (const Colour& colour : kColours)
    out += fmt::format("--{}: {};", colour.name, colour.*scheme);
  return out;
}

constexpr const char* kLayout = R"css(
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 0 16px 48px; max-width: 1120px; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere;
}
header { padding: 24px 0 0; }
h1 { font-size: clamp(1.4rem, 4.5vw, 2rem); line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 1.35rem; margin: 44px 0 6px; padding-top: 14px; border-top: 1px solid var(--line); }
main > section:first-child h2 { margin-top: 14px; }
h3 { font-size: 1.05rem; margin: 26px 0 6px; }
p { margin: 8px 0; max-width: 90ch; }
.lede { font-size: 1.1rem; max-width: 96ch; }
.dim, .meta { color: var(--dim); }
.meta { font-size: 0.9rem; }
.intro::first-letter { text-transform: uppercase; }
.caveat {
  background: var(--warn); border-left: 4px solid var(--warn-line); padding: 8px 14px;
  border-radius: 4px;
}
a { color: var(--accent); }
nav ul {
  display: flex; flex-wrap: wrap; gap: 2px 18px; list-style: none; padding: 0; margin: 8px 0 0;
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
/* Shades at the edges beyond which there is more: those that move with the content cover them. */
.scroll {
  overflow-x: auto; margin: 12px 0; border: 1px solid var(--line); border-radius: 8px;
  position: relative; max-width: 100%;
  background: linear-gradient(to right, var(--card) 30%, transparent) left / 40px 100%,
    linear-gradient(to left, var(--card) 30%, transparent) right / 40px 100%,
    linear-gradient(to right, var(--shade), transparent) left / 16px 100%,
    linear-gradient(to left, var(--shade), transparent) right / 16px 100%, var(--card);
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll, scroll;
}
.hint { display: none; margin: 12px 0 -8px; font-size: 0.85rem; color: var(--dim); }
.hint.always { display: block; }
@media (max-width: 1000px) { .hint.medium { display: block; } }
@media (max-width: 480px) { .hint.small { display: block; } }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.92rem; }
th, td {
  padding: 7px 12px; text-align: left; vertical-align: top; border-top: 1px solid var(--line);
}
thead th { border-top: 0; white-space: nowrap; background: var(--tint); font-weight: 600; }
tbody th { font-weight: 600; overflow-wrap: normal; }
.numbers th, .numbers td {
  text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; padding: 5px 10px;
}
.numbers thead th { white-space: normal; overflow-wrap: normal; vertical-align: bottom; }
.numbers th[scope="row"], .numbers th:first-child, .numbers .left { text-align: left; }
.numbers th:first-child, .pictures th:first-child {
  position: sticky; left: 0; z-index: 1; background: var(--card);
}
.numbers thead th:first-child, .pictures thead th:first-child { background: var(--tint); }
.numbers tbody tr:hover > * { background: var(--tint); }
.numbers .apart > * { border-bottom: 3px double var(--line); }
.ci { color: var(--dim); font-size: 0.86em; }
.numbers .ci { display: block; line-height: 1.2; }
sup { line-height: 0; }
abbr { text-decoration: none; }
dl.facts {
  display: grid; grid-template-columns: minmax(9em, max-content) 1fr; gap: 4px 16px;
  font-size: 0.9rem;
}
dl.facts dt { color: var(--dim); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 560px) {
  header { padding-top: 14px; }
  h1 { font-size: 1.25rem; }
  h2 { font-size: 1.2rem; }
  .lede { font-size: 1rem; line-height: 1.45; }
  .caveat { padding: 4px 12px; font-size: 0.9rem; }
  header .dim, .intro { font-size: 0.9rem; line-height: 1.4; }
  nav ul { flex-wrap: nowrap; overflow-x: auto; white-space: nowrap; }
  dl.facts { grid-template-columns: 1fr; gap: 0; }
  dl.facts dd { margin-bottom: 8px; }
  th, td, .numbers th, .numbers td { padding: 5px 8px; }
}
)css";

// What stands inside an SVG.
constexpr const char* kDrawings = R"css(
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink); }
svg text.tick, svg text.axis, svg text.dim { fill: var(--dim); }
svg text.tick { font-size: 11px; }
svg text.label { paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
.grid { stroke: var(--grid); stroke-width: 1; }
.zero { stroke: var(--dim); stroke-width: 1; }
.k0 { color: var(--k0); } .k1 { color: var(--k1); } .k2 { color: var(--k2); }
.k3 { color: var(--k3); } .k4 { color: var(--k4); } .k5 { color: var(--k5); }
.ref { color: var(--ref); }
.dot { fill: currentColor; stroke: var(--card); stroke-width: 1; }
.dot.ref { fill: var(--card); stroke: currentColor; stroke-width: 2; }
.bar { stroke: currentColor; stroke-width: 3; opacity: 0.6; }
.bar.thin { stroke-width: 1.5; }
.curve { fill: none; stroke: currentColor; stroke-width: 2; }
.dashed { stroke-dasharray: 4 4; }
.front { fill: none; stroke: var(--dim); stroke-width: 1.5; stroke-dasharray: 5 4; }
.cell { fill: var(--card); }
.heat { fill: var(--heat); }
svg text.cold { fill: var(--cold-ink); }
svg text.hot { fill: var(--hot-ink); }
.out.target { fill: var(--out-target); } svg text.ink.target { fill: var(--ink-target); }
.out.anchor { fill: var(--out-anchor); } svg text.ink.anchor { fill: var(--ink-anchor); }
.out.other_valid { fill: var(--out-other); } svg text.ink.other_valid { fill: var(--ink-other); }
.out.garbage { fill: var(--out-garbage); } svg text.ink.garbage { fill: var(--ink-garbage); }
.out.blocked { fill: var(--out-blocked); } svg text.ink.blocked { fill: var(--ink-blocked); }
)css";

constexpr const char* kFigures = R"css(
.figures { display: flex; flex-wrap: wrap; gap: 16px; margin: 14px 0; align-items: flex-start; }
.figure {
  margin: 0; padding: 10px 5px 4px; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; width: 352px; max-width: 100%;
}
.figure.wide { width: auto; }
.pan { overflow-x: auto; }
.figure figcaption { font-weight: 600; font-size: 0.95rem; padding: 0 6px 6px; }
.figure svg { display: block; max-width: 100%; height: auto; }
.figure.wide svg { max-width: none; }
.key { display: inline-block; width: 12px; height: 12px; margin-right: 7px; }
)css";

constexpr const char* kPictures = R"css(
.gallery .scroll { width: fit-content; }
.pictures { width: auto; }
.pictures th, .pictures td { padding: 6px 7px; }
.pictures thead th { font-size: 0.84rem; min-width: 94px; max-width: 120px; white-space: normal; }
.pictures thead th:first-child { min-width: 0; }
@media (min-width: 561px) { .pictures th[scope="row"] { white-space: nowrap; } }
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

// A drawing on white.
constexpr const char* kFile = R"css(
.ground { fill: var(--card); }
svg text.title { font-size: 14px; font-weight: 600; }
)css";

}  // namespace

std::string PageStyle() {
  return fmt::format("\n:root {{ color-scheme: light dark; {} }}\n", Declarations(&Colour::light)) +
         fmt::format("@media (prefers-color-scheme: dark) {{ :root {{ {} }} }}\n",
                     Declarations(&Colour::dark)) +
         kLayout + kDrawings + kFigures + kPictures;
}

std::string FigureFileStyle() {
  std::string style = std::string(kDrawings) + kFile;
  for (const Colour& colour : kColours) {
    const std::string name = fmt::format("var(--{})", colour.name);
    for (size_t at = style.find(name); at != std::string::npos; at = style.find(name, at)) {
      style.replace(at, name.size(), colour.light);
    }
  }
  return style;
}

}  // namespace excise
