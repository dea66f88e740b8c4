"use strict";
// Draws the report from the JSON in #data. All text in there is a model's or a user's, so it only ever becomes a text node
// or an attribute that is not a URL, a style or a handler.

const page = JSON.parse(document.getElementById("data").textContent);
const SIDES = ["base", "trained"];
const labelOf = (side) => text(page.comparison[side]?.label) || side;

// --------------------------------------------------------------------------------------------------- nodes and numbers

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const list = (value) => (Array.isArray(value) ? value : []);
const text = (value) => (typeof value === "string" ? value : value == null ? "" : JSON.stringify(value));
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const capital = (words) => words.replace(/^[a-z](?=[a-z-]*( |$))/, (letter) => letter.toUpperCase());

function fill(node, attributes, ...children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value == null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(4).filter((child) => child != null && child !== false && child !== ""));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const quiet = (...children) => h("span", { class: "quiet" }, children);
const headRow = (names) => h("thead", null, h("tr", null, names.map((name) => h("th", { scope: "col" }, name))));

function fixed(value, decimals, signed = false) {
  if (!isNumber(value)) return "–";
  const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  return value.toLocaleString("en", { ...digits, signDisplay: signed ? "exceptZero" : "negative" }).replace("-", "−");
}

function short(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-3) return value.toExponential(1).replace(/-/g, "−");
  const digits = size >= 1e3 && size < 1e5 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 };
  return value.toLocaleString("en", { ...digits, notation: size >= 1e5 ? "compact" : "standard" }).replace("-", "−");
}

const percent = (value, decimals = 0) => (isNumber(value) ? `${fixed(100 * value, decimals)}%` : "–");

/** Two digits of the interval's half-width: more would be noise, fewer would hide it. */
function decimalsFor({ low, high, value }, factor) {
  const doubt = high > low ? (factor * (high - low)) / 2 : factor * Math.abs(value) || 1;
  return clamp(1 - Math.floor(Math.log10(doubt)), 0, factor === 100 ? 1 : 6);
}

// --------------------------------------------------------------------------------------------------------- chart pieces

/** Draws when the holder first has a width, and again whenever that changes. */
function mount(holder, draw) {
  let drawn = 0;
  const fit = () => {
    const width = Math.floor(holder.clientWidth);
    if (width > 0 && width !== drawn) holder.replaceChildren(draw((drawn = width)));
  };
  // In a frame of its own, for drawing changes the very size that is being observed.
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(holder);
  return holder;
}

function scale([from, to], [start, end], log = false) {
  const at = log ? Math.log2 : Number;
  const span = at(to) - at(from) || 1;
  return (value) => start + ((at(value) - at(from)) / span) * (end - start);
}

/** Round numbers in some `count` steps: those within the range, or with `around` enough to hold all but a tenth of a step. */
function ticks([low, high], count, around = false) {
  const raw = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((candidate) => candidate >= raw * 0.999);
  const slack = around ? 0.1 : 1e-9;
  const [first, last] = around ? [Math.floor(low / step + slack), Math.ceil(high / step - slack)]
    : [Math.ceil(low / step - slack), Math.floor(high / step + slack)];
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** Ticks that hold all values, and 0 where that costs little. */
function ticksAround(values, count) {
  let [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  if (low > 0 && low < (high - low) * 1.5) low = 0;
  if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
  return ticks([low, high], count, true);
}

const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
// A zero-length stroke with a round cap is a dot: thousands of them are still one node.
const dots = (points) => points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join("");

/** A centred moving average, so that a turn in the curve stays at the step where it happened. */
function smooth(points, reach) {
  return points.map(({ x }, i) => {
    const near = points.slice(Math.max(0, i - reach), i + reach + 1);
    return { x, y: near.reduce((sum, { y }) => sum + y, 0) / near.length };
  });
}

function axes({ x, y, width, height, margin, xTicks, yTicks, xFormat, yFormat, xName, yName }) {
  const [left, right, bottom] = [margin.left, width - margin.right, height - margin.bottom];
  const middle = (margin.top + bottom) / 2;
  return s("g", { "aria-hidden": "true" },
    yTicks.map((tick) => [s("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "grid" }),
      s("text", { x: left - 8, y: y(tick), dy: "0.32em", "text-anchor": "end" }, yFormat(tick))]),
    s("line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "axis" }),
    xTicks.map((tick) => s("text", { x: x(tick), y: bottom + 17, "text-anchor": "middle" }, xFormat(tick))),
    xName && s("text", { x: (left + right) / 2, y: height - 3, "text-anchor": "middle" }, xName),
    yName && s("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, yName));
}

const swatch = (look) => s("svg", { width: 22, height: 10, class: `swatch ${look}`, "aria-hidden": "true" },
  s("path", { d: "M1 5H21", class: "line" }), s("path", { d: "M11 5h0", class: "dots" }));
const legend = (series) => h("ul", { class: "legend" }, series.map(({ name, look }) => h("li", null, swatch(look), name)));

/** Makes a chart's stops readable one by one, with the arrow keys or the pointer; `nearest` maps a pointer event to a stop. */
function steppable(holder, label, count, show, nearest) {
  let at = count - 1;
  const go = (i) => show((at = clamp(i, 0, count - 1)));
  const moves = { ArrowLeft: () => at - 1, ArrowRight: () => at + 1, Home: () => 0, End: () => count - 1 };
  const keydown = (event) => {
    if (!moves[event.key]) return;
    event.preventDefault();
    go(moves[event.key]());
  };
  const point = (event) => go(nearest(event));
  const name = `${label}. Left and right arrow keys read the values one by one.`;
  const listeners = { keydown, focus: () => go(at), pointermove: point, pointerdown: point };
  return fill(holder, { tabindex: 0, role: "group", "aria-label": name, ...listeners });
}

/**
 * Lines with interval bands over a shared x. Each series is {name, look, points: [{x, y, low, high, note}]}; `reach` smooths a
 * line over that many neighbours on either side while the raw points stay visible.
 */
function lineChart({ title, label, series, height, format, xName, yName, xLog, yDomain, yCount = 4, reach = () => 0, slim }) {
  const known = series.map((one) => ({ ...one, points: one.points.filter(({ x, y }) => isNumber(x) && isNumber(y)) }));
  const xs = [...new Set(known.flatMap(({ points }) => points.map(({ x }) => x)))].sort((a, b) => a - b);
  const lookup = known.map(({ points }) => new Map(points.map((point) => [point.x, point])));
  const values = known.flatMap(({ points }) => points.flatMap(({ y, low, high }) => [y, low, high].filter(isNumber)));
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const holder = h("div", { class: "plot" });
  const margin = { top: 10, right: 14, bottom: xName ? 40 : 24, left: yName ? 64 : 52 };
  let view = {};

  const show = (i) => {
    const found = known.map((one, j) => ({ ...one, point: lookup[j].get(xs[i]) })).filter(({ point }) => point);
    readout.replaceChildren(quiet(`${slim ? "step" : xName.split(" ")[0]} ${xs[i]}`),
      ...found.map(({ name, look, point }) => reading(known.length > 1 && [swatch(look), `${name} `], point, format)));
    view.cursor?.replaceChildren(
      s("line", { x1: view.x(xs[i]), x2: view.x(xs[i]), y1: margin.top, y2: height - margin.bottom }),
      ...found.map(({ look, point }) => s("circle", { class: look, r: 4, cx: view.x(point.x), cy: view.y(point.y) })));
  };
  const nearest = (event) => {
    const far = (x) => Math.abs(view.x(x) - event.clientX + holder.getBoundingClientRect().left);
    return xs.reduce((best, x, i) => (far(x) < far(xs[best]) ? i : best), 0);
  };
  const draw = (width) => {
    const ends = [xs[0], xs.at(-1)];
    const yTicks = ticksAround(yDomain ?? values, yCount);
    const x = scale(ends, [margin.left + 6, width - margin.right - 6], xLog);
    const y = scale([yTicks[0], yTicks.at(-1)], [height - margin.bottom, margin.top]);
    const between = () => ticks(ends, clamp(width / 90, 2, 10)).filter(Number.isInteger);
    const xTicks = xLog ? xs : slim ? [...new Set(ends)] : between();
    view = { x, y, cursor: s("g", { class: "cursor" }) };
    return s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      axes({ x, y, width, height, margin, xTicks, yTicks, xFormat: short, yFormat: format, xName, yName }),
      known.map(({ look, points }) => curve(look, points, x, y, reach())), view.cursor);
  };
  const caption = h("figcaption", null, title, known.length > 1 && legend(known), slim && readout);
  const plot = steppable(mount(holder, draw), label, xs.length, show, nearest);
  const figure = h("figure", { class: slim ? "chart slim" : "chart" }, caption, plot, !slim && readout);
  show(xs.length - 1);
  figure.redraw = () => holder.clientWidth && holder.replaceChildren(draw(holder.clientWidth));
  return figure;
}

function curve(look, points, x, y, reach) {
  const sure = points.filter(({ low, high }) => isNumber(low) && isNumber(high));
  const outline = [...sure.map((p) => [x(p.x), y(p.high)]), ...sure.reverse().map((p) => [x(p.x), y(p.low)])];
  const place = (p) => [x(p.x), y(p.y)];
  return s("g", { class: look }, outline.length > 2 && s("path", { d: `${line(outline)}Z`, class: "band" }),
    s("path", { d: line(smooth(points, reach).map(place)), class: "line" }),
    s("path", { d: dots(points.map(place)), class: points.length > 30 || reach > 0 ? "dots faint" : "dots" }));
}

function reading(name, { y, low, high, note }, format) {
  const interval = isNumber(low) && isNumber(high) && ` (${format(low, 1)} to ${format(high, 1)})`;
  return h("span", null, name, h("b", null, format(y, 1)), quiet(interval, note && ` ${note}`));
}

// --------------------------------------------------------------------------------------------------------------- header

const modelName = (model) => [...new Set([model?.label, model?.model_path].filter(Boolean))].join(" · ");
const joined = (parts, by) => parts.filter(Boolean).join(by);

function header({ base, trained, training: run, task, split, samples, n_problems: problems, seed, sampling }) {
  const steps = list(run?.metrics).length;
  const facts = {
    "Trained by": joined([run?.algorithm, steps && plural(steps, "step")], ", "),
    Task: joined([task, split && `(${split})`], " "),
    "Measured on": joined([problems && plural(problems, "problem"), samples && plural(samples, "sample")], " × "),
    Seed: text(seed),
    Sampling: Object.entries(sampling ?? {}).map(([name, value]) => `${name.replaceAll("_", " ")} ${text(value)}`).join(", "),
    Base: modelName(base),
    Trained: modelName(trained),
  };
  const [lead, ...rest] = page.verdict;
  const known = Object.entries(facts).filter(([, fact]) => fact);
  return [h("h1", null, page.title), h("p", { class: "verdict" }, h("strong", null, lead), ` ${rest.join(" ")}`),
    known.length > 0 && h("dl", { class: "facts" },
      known.map(([name, fact]) => h("div", null, h("dt", null, name), h("dd", null, fact))))];
}

// ----------------------------------------------------------------------------------------------- what training changed

const titleOf = ({ title, name }) => capital(text(title) || text(name));

function changed({ rows: given }) {
  const rows = list(given).filter(Boolean);
  if (!rows.length) return h("p", { class: "quiet" }, "Nothing was measured.");
  const notes = [...new Set(rows.map(({ note }) => text(note)).filter(Boolean))];
  return [h("table", { class: "changes" }, h("caption", { class: "hidden" }, "What training changed, with 95% intervals"),
    headRow(["Measure", ...SIDES.map(labelOf), "Difference", h("span", { class: "hidden" }, "Difference in figures")]),
    h("tbody", null, rows.map((row) => changeRow(row, notes.indexOf(row.note) + 1)))),
  h("p", { class: "quiet small" }, "Intervals are 95%, each on its own, over problems (n) and not over repeats of one problem. ",
    "Every plot has its own scale; its upright line is no difference."),
  notes.length > 0 && h("ol", { class: "notes small" }, notes.map((note, i) => h("li", { id: `note-${i + 1}` }, capital(note))))];
}

function changeRow(row, note) {
  const { look, word } = judge(row);
  const mark = note > 0 && h("sup", null, h("a", { href: `#note-${note}`, "aria-label": `Note ${note}` }, note));
  return h("tr", { class: look }, h("th", { scope: "row" }, titleOf(row), mark),
    SIDES.map((side) => h("td", { "data-head": labelOf(side) }, quantity(row[side]))),
    h("td", { class: "forest" }, isNumber(row.difference?.low) && isNumber(row.difference?.high) && forest(row, word)),
    h("td", { class: "difference", "data-head": "Difference" }, row.difference && quantity(row.difference, isPaired(row)),
      h("span", { class: "state" }, word, pValue(row.p_value))));
}

const pValue = (p) => isNumber(p) && quiet(p < 0.001 ? " · p < 0.001" : ` · p = ${short(p)}`);

/** What only two models together have, KL or problems gained, is a size rather than a difference, and never below 0. */
const isPaired = ({ base, trained }) => Boolean(base ?? trained);

/** Good and bad are claimed only where the interval leaves out 0 and the row says which way is better. */
function judge(row) {
  const { difference, better } = row;
  const { value, low, high } = difference ?? {};
  if (difference && !isPaired(row)) return { look: "unsure", word: "between the two" };
  if (![value, low, high].every(isNumber)) return { look: "unsure", word: difference ? "cannot say" : row.withheld ? "withheld" : "not compared" };
  if (low <= 0 && high >= 0) return { look: "unsure", word: "no difference shown" };
  const arrow = value > 0 ? "▲" : "▼";
  if (better !== "higher" && better !== "lower") return { look: "moved", word: `${arrow} ${value > 0 ? "higher" : "lower"}` };
  const good = value > 0 === (better === "higher");
  return { look: good ? "good" : "bad", word: `${arrow} ${good ? "better" : "worse"}` };
}

function quantity(measure, signed = false) {
  if (!isNumber(measure?.value)) return quiet("–");
  const fraction = measure.unit === "fraction";
  const factor = fraction ? 100 : 1;
  const decimals = decimalsFor(measure, factor);
  const [value, low, high] = ["value", "low", "high"].map((part) => fixed(factor * measure[part], decimals, signed));
  const unit = fraction ? (signed ? " points" : "%") : measure.unit && ` ${text(measure.unit)}`;
  const interval = isNumber(measure.low) && isNumber(measure.high) ? `${low} to ${high}` : "no interval";
  return [h("span", { class: "value" }, value, h("span", { class: "unit" }, unit)),
    h("span", { class: "doubt" }, interval, isNumber(measure.n) && ` · n ${measure.n.toLocaleString("en")}`),
    measure.n_unscored > 0 && h("span", { class: "doubt unscored" }, `${short(measure.n_unscored)} not scored`)];
}

function forest(row, word) {
  const { value, low, high } = row.difference;
  const most = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const x = scale([-most, most], [8, 192]);
  return s("svg", { viewBox: "0 0 200 40", class: "forest-plot", role: "img", "aria-label": `${titleOf(row)}: ${word}` },
    s("line", { x1: x(0), x2: x(0), y1: 2, y2: 38, class: "zero" }),
    s("path", { d: `M${x(low)} 16v8M${x(low)} 20H${x(high)}M${x(high)} 16v8`, class: "whisker" }),
    s("circle", { cx: x(value), cy: 20, r: 5 }));
}

// --------------------------------------------------------------------------------------------------------------- pass@k

function passAtK({ pass_at_k: curves }) {
  const ks = list(curves?.k);
  const points = (side) => list(curves?.[side]).map((measure, i) => ({ ...measure, x: ks[i], y: measure?.value }));
  const series = SIDES.map((side) => ({ name: labelOf(side), look: side, points: points(side) }))
    .filter((one) => one.points.some(({ x, y }) => isNumber(x) && isNumber(y)));
  if (!series.length || ks.length < 2) return null;  // one k alone is no curve: accuracy says as much
  const n = Math.max(...series.flatMap((one) => one.points.map((point) => point.n ?? 0)));
  const spoken = series.map((one) => `${one.name} ${one.points.map(({ x, y }) => `${percent(y)} at k ${x}`).join(", ")}`);
  const row = (k, i) => h("tr", null, h("th", { scope: "row" }, k),
    series.map((one) => h("td", null, one.points[i] && quantity({ ...one.points[i], unit: "fraction" }))));
  const about = "The chance that at least one of k attempts is right, averaged over the problems; bands are 95% intervals.";
  return [h("p", { class: "about" }, about, n > 0 && ` n = ${plural(n, "problem")}.`),
  lineChart({ label: `pass@k: ${spoken.join("; ")}`, series, height: 340, format: percent, xName: "k attempts", yName: "solved", xLog: true,
    yDomain: [0, 1], yCount: 5 }),
  h("details", null, h("summary", null, "As a table"),
    h("table", { class: "plain" }, headRow(["k", ...series.map(({ name }) => name)]), h("tbody", null, ks.map(row))))];
}

// -------------------------------------------------------------------------------------------------------- bare and in use

function bareAndInUse({ side_by_side: given }) {
  const pairs = list(given).filter((pair) => SIDES.every((side) => pair?.[side]));
  if (!pairs.length) return null;
  const shown = pairs.filter((pair) => !withheldOf(pair));
  const about = "The same problems twice: bare, and where the same ability is in use, late in a conversation or in an agent's loop. The last row "
    + "of each is what the use does to one model more than to the other, problem by problem. p is adjusted for the number of pairs (Holm).";
  const heads = ["Ability in use", "Bare", "In use", "Change", h("span", { class: "hidden" }, "Change in figures")];
  return [h("p", { class: "about" }, about), shown.length > 0 && dumbbells(shown),
    h("table", { class: "changes" }, h("caption", { class: "hidden" }, "Each ability bare and in use, with 95% intervals"), headRow(heads),
      h("tbody", null, pairs.flatMap((pair) => [...SIDES.map((side) => useRow(pair, side)), contrastRow(pair)])))];
}

const withheldOf = (pair) => text(pair.base.withheld) || text(pair.trained.withheld);

function useRow(pair, side) {
  const { bare, in_use: used, difference, p_holm: p } = pair[side];
  const name = [h("span", { class: "value" }, capital(text(pair.task))), h("span", { class: "doubt" }, swatch(side), labelOf(side))];
  const cells = [bare, used].map((measure, i) => h("td", { "data-head": i ? "In use" : "Bare" }, quantity(measure)));
  return contrast(name, cells, difference, p, withheldOf(pair));
}

function contrastRow(pair) {
  const name = h("span", { class: "doubt" }, `${labelOf("trained")}'s change less ${labelOf("base")}'s`);
  return contrast(name, [h("td"), h("td")], pair.difference, pair.p_holm, withheldOf(pair));
}

/** A row that ends in a difference, drawn and in figures; more is better. */
function contrast(name, cells, difference, p, withheld) {
  const head = h("th", { scope: "row" }, name);
  if (withheld) return h("tr", { class: "unsure" }, head, h("td", { colspan: 4 }, quiet(`withheld: ${withheld}`)));
  const { look, word } = judge({ difference, better: "higher", base: difference });
  const known = isNumber(difference?.low) && isNumber(difference?.high);
  return h("tr", { class: look }, head, cells, h("td", { class: "forest" }, known && forest({ difference, name: "change" }, word)),
    h("td", { class: "difference", "data-head": "Change" }, quantity(difference, true), h("span", { class: "state" }, word, pValue(p))));
}

/** For each ability and model the bare value above, the one in use below, each with its interval, and what joins them. */
function dumbbells(pairs) {
  const margin = { top: 4, right: 24, bottom: 40, left: 24 };
  const [heading, step, each] = [20, 13, 34];
  const height = margin.top + margin.bottom + pairs.length * (heading + SIDES.length * each);
  const spoken = ({ task, base, trained }) => `${text(task)}: ${[base, trained].map(({ bare, in_use: used }, i) => (
    `${labelOf(SIDES[i])} ${percent(bare.value)} bare and ${percent(used.value)} in use`)).join(", ")}`;
  const draw = (width) => {
    const x = scale([0, 1], [margin.left, width - margin.right]);
    const marks = ticks([0, 1], 5);
    const dot = ({ value, low, high }, y, look) => isNumber(value) && [
      isNumber(low) && isNumber(high) && s("path", { d: `M${x(low).toFixed(1)} ${y}H${x(high).toFixed(1)}`, class: "whisker" }),
      s("circle", { cx: x(value), cy: y, r: 4.5, class: look })];
    const model = ({ bare, in_use: used }, side, top) => s("g", { class: side },
      [bare, used].every(({ value }) => isNumber(value)) && s("path", { d: `M${x(bare.value)} ${top}L${x(used.value)} ${top + step}`, class: "joint" }),
      dot(bare, top, "bare"), dot(used, top + step, "in-use"));
    const block = (pair, i) => {
      const top = margin.top + i * (heading + SIDES.length * each);
      return [s("text", { x: margin.left, y: top + 13, class: "ability" }, capital(text(pair.task)).slice(0, Math.floor(width / 7))),
        SIDES.map((side, j) => model(pair[side], side, top + heading + 8 + j * each))];
    };
    return s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": pairs.map(spoken).join("; ") },
      marks.map((mark) => s("line", { x1: x(mark), x2: x(mark), y1: margin.top, y2: height - margin.bottom, class: "grid" })),
      axes({ x, y: x, width, height, margin, xTicks: marks, yTicks: [], xFormat: percent, xName: "accuracy" }), pairs.map(block));
  };
  const looks = h("li", null, h("span", { class: "quiet" }, "open and above: bare; filled and below: in use; bars are 95% intervals"));
  const models = legend(SIDES.map((side) => ({ name: labelOf(side), look: side })));
  return h("figure", { class: "chart uses" }, h("figcaption", null, fill(models, null, looks)), mount(h("div", { class: "plot" }), draw));
}

// ------------------------------------------------------------------------------- the base at another temperature, calibration

function matchedBase({ matched: found }) {
  const rows = list(found?.rows).filter(Boolean);
  if (!rows.length) return null;
  const way = found.by === "agreement" ? "its answers agree as often" : "it is as sure of its tokens";
  const about = `The base at temperature ${short(found.temperature)}, where ${way} as the trained model at ${short(found.base_temperature)}. `
    + "The temperature was found on half of the problems; these figures are of the others.";
  const heads = ["Measure", `${labelOf("base")} at ${short(found.temperature)}`, labelOf("trained"), "Difference"];
  return [h("p", { class: "about" }, about, text(found.note) && ` ${capital(text(found.note))}.`),
    h("table", { class: "changes" }, headRow([...heads, h("span", { class: "hidden" }, "Difference in figures")]),
      h("tbody", null, rows.map((row) => changeRow(row, 0))))];
}

function calibration({ calibration: given }) {
  const forms = list(given).filter((form) => SIDES.some((side) => list(form?.[side]?.calibration?.bins).length));
  if (!forms.length) return null;
  const about = "How often the model is right where it is so sure. On the diagonal confidence is what it says; below it the model "
    + "is too sure of itself. Circles are bins of confidence, their area the number of answers; bars are 95% intervals over problems.";
  return [h("p", { class: "about" }, about), h("div", { class: "multiples wide" }, forms.map(reliability)),
    h("table", { class: "plain" }, headRow(["Asked by", "Model", "Right", "Mean confidence", "ECE", "ECE by chance", "Adaptive ECE", "Brier",
      "AUROC"]), h("tbody", null, forms.flatMap((form) => SIDES.map((side) => calibrationRow(form, side))))),
    h("p", { class: "quiet small" }, "ECE is the expected calibration error in 15 bins of equal width, adaptive in 15 of equal numbers. ",
      "By chance: its mean for a calibrated model at this n, and what such a model stays below in 95 of 100 samples. ",
      "Brier is split into reliability − resolution + uncertainty."),
    forms.flatMap((form) => SIDES.map((side) => scalingLine(form, side)))];
}

function calibrationRow(form, side) {
  const { calibration: found, n_unparsed: unparsed } = form[side];
  const parts = found.parts && quiet(`${fixed(found.parts.reliability, 3)} − ${fixed(found.parts.resolution, 3)} + ${fixed(found.parts.uncertainty, 3)}`);
  const chance = ({ by_chance: mean, by_chance_high: high }) => [percent(mean, 1), h("span", { class: "doubt" }, `to ${percent(high, 1)}`)];
  return h("tr", null, h("th", { scope: "row" }, capital(text(form.title)), unparsed > 0 && h("span", { class: "doubt" }, `${unparsed} without one`)),
    h("td", null, swatch(side), labelOf(side)), h("td", null, quantity(found.accuracy)), h("td", null, quantity(found.confidence)),
    h("td", null, quantity(found.ece.error)), h("td", null, chance(found.ece)), h("td", null, quantity(found.ece_adaptive.error)),
    h("td", null, quantity(found.brier), parts), h("td", null, quantity(found.auroc)));
}

function scalingLine(form, side) {
  const found = form[side].scaling;
  if (!found) return null;
  const ends = ({ value, low, high }, format) => `${format(value)} (${format(low)} to ${format(high)})`;
  const share = (value) => percent(value, 1);
  return h("p", { class: "small" }, h("b", null, `${capital(text(form.title))}, ${labelOf(side)}: `),
    `one temperature, ${ends(found.temperature, short)} from n ${found.temperature.n}, takes the ECE on the other `,
    `n ${found.change.n} from ${ends(found.before.error, share)} to ${ends(found.after.error, share)}; by chance ${share(found.after.by_chance)}.`);
}

/** Accuracy over confidence, in bins, of both models. */
function reliability(form) {
  const found = SIDES.flatMap((side) => list(form[side]?.calibration?.bins).map((bin) => ({ ...bin, side })));
  const most = Math.max(...found.map(({ n }) => n));
  const radius = ({ n }) => Math.max(2.5, 9 * Math.sqrt(n / most));
  const said = ({ side, confidence, accuracy, n }) => [swatch(side), `${labelOf(side)} `, h("b", null, `${percent(confidence)} sure`),
    ` right in ${percent(accuracy.value)}`, quiet(` (${percent(accuracy.low)} to ${percent(accuracy.high)}), ${plural(n, "answer")}`)];
  const label = `Reliability of ${text(form.title)}: ${found.map(({ side, confidence, accuracy }) => (
    `${labelOf(side)} ${percent(confidence)} sure, right in ${percent(accuracy.value)}`)).join("; ")}`;
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const holder = h("div", { class: "plot" });
  let view = {};
  const show = (i) => {
    readout.replaceChildren(h("span", null, said(found[i])));
    view.cursor?.replaceChildren(s("circle", { cx: view.x(found[i].confidence), cy: view.y(found[i].accuracy.value), r: radius(found[i]) + 3 }));
  };
  const nearest = (event) => {
    const { left, top } = holder.getBoundingClientRect();
    const far = ({ confidence, accuracy }) => Math.hypot(view.x(confidence) - event.clientX + left, view.y(accuracy.value) - event.clientY + top);
    return found.reduce((best, bin, i) => (far(bin) < far(found[best]) ? i : best), 0);
  };
  const draw = (width) => {
    const [margin, height] = [{ top: 10, right: 14, bottom: 40, left: 64 }, Math.min(width, 380)];
    const x = scale([0, 1], [margin.left + 6, width - margin.right - 6]);
    const y = scale([0, 1], [height - margin.bottom, margin.top]);
    const marks = ticks([0, 1], 5);
    view = { x, y, cursor: s("g", { class: "cursor" }) };
    return s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      axes({ x, y, width, height, margin, xTicks: marks, yTicks: marks, xFormat: percent, yFormat: percent, xName: "confidence", yName: "right" }),
      s("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "diagonal" }),
      found.map((bin) => s("g", { class: bin.side }, whiskerOf(bin, x, y),
        s("circle", { cx: x(bin.confidence), cy: y(bin.accuracy.value), r: radius(bin), class: "bin" }))), view.cursor);
  };
  const plot = steppable(mount(holder, draw), label, found.length, show, nearest);
  show(found.length - 1);
  const sides = SIDES.map((side) => ({ name: labelOf(side), look: side }));
  const caption = h("figcaption", null, h("h3", null, capital(text(form.title))), legend(sides));
  return h("figure", { class: "chart" }, caption, plot, readout);
}

function whiskerOf({ confidence, accuracy: { low, high } }, x, y) {
  return isNumber(low) && isNumber(high) && s("path", { d: `M${x(confidence).toFixed(1)} ${y(low).toFixed(1)}V${y(high).toFixed(1)}`, class: "whisker" });
}

// ------------------------------------------------------------------------------------------------------------- training

const FIRST = ["policy/entropy", "policy/kl", "policy/grad_norm", "sampling/length_tokens", "sampling/truncated_frac",
  "time/tokens_per_s"];
const PART_OF_MEAN = /\/(low|high|n|stderr)$/;
const MULTIPLES = 12;

function training({ training: run }) {
  const metrics = list(run?.metrics).filter((row) => isNumber(row?.step));
  const names = new Set(metrics.flatMap((row) => Object.keys(row).filter((name) => isNumber(row[name]))));
  const isPart = (name) => PART_OF_MEAN.test(name) && names.has(name.replace(PART_OF_MEAN, "/mean"));
  const others = [...names].filter((name) => !["step", "reward/mean", "groups/live_frac"].includes(name) && !isPart(name));
  const ordered = [...FIRST.filter((name) => others.includes(name)), ...others.filter((name) => !FIRST.includes(name))];
  const smoothing = h("input", { type: "checkbox", checked: true, change: () => charts.forEach((chart) => chart.redraw()) });
  const most = Math.floor(metrics.length / 40);
  const reach = () => (smoothing.checked ? most : 0);
  const main = [rewardChart, liveChart].flatMap((make) => make(metrics, names, reach));
  const small = ordered.map((name) => metricChart(metrics, name, reach));
  const charts = [...main, ...small];
  if (!charts.length) return null;
  const control = h("label", { class: "control" }, smoothing, ` Smooth lines over ${2 * most + 1} steps (points stay raw)`);
  return [most > 0 && control, main,
    small.length > 0 && h("div", { class: "multiples" }, small.slice(0, MULTIPLES)),
    small.length > MULTIPLES && h("details", null, h("summary", null, plural(small.length - MULTIPLES, "further metric")),
      h("div", { class: "multiples" }, small.slice(MULTIPLES)))];
}

function metricChart(metrics, name, reach, options = {}) {
  const part = (row, kind) => (name.endsWith("/mean") ? row[name.replace(/mean$/, kind)] : undefined);
  const points = metrics.map((row) => ({ x: row.step, y: row[name], low: part(row, "low"), high: part(row, "high"),
    note: isNumber(part(row, "n")) && `n ${part(row, "n")}` }));
  const format = name.endsWith("_frac") ? percent : short;
  const known = points.filter(({ y }) => isNumber(y));
  const ends = [known[0], known.at(-1)].map(({ x, y }) => `${format(y)} at step ${x}`).join(", ");
  const title = h("h3", null, name.split(/(?<=[/_])/).flatMap((word) => [word, h("wbr")]));
  const defaults = { title, label: `${name}: ${ends}`, height: 120, format, yCount: 2, reach, slim: !options.title };
  return lineChart({ series: [{ name, look: "trained", points }], ...defaults, ...options });
}

function rewardChart(metrics, names, reach) {
  if (!names.has("reward/mean")) return [];
  const title = h("h3", null, "Reward ", quiet("mean over the step's rollouts, with its 95% interval"));
  return [metricChart(metrics, "reward/mean", reach, { title, height: 280, xName: "step", yName: "reward", yCount: 4 })];
}

function liveChart(metrics, names, reach) {
  if (!names.has("groups/live_frac")) return [];
  const title = h("h3", null, "Live groups ", quiet("share of problems whose attempts differ in reward, and so teach"));
  return [metricChart(metrics, "groups/live_frac", reach, { title, height: 130, xName: "step", yDomain: [0, 1] })];
}

// ------------------------------------------------------------------------------------------------------------- problems

const CHANGES = { newly_solved: "Newly solved", newly_lost: "Newly lost", both: "Solved by both", neither: "Solved by neither" };
const FIRST_ROWS = 20;
const MORE_ROWS = 500;
const gain = ({ base_rate: from, trained_rate: to }) => (isNumber(from) && isNumber(to) ? to - from : null);
const COLUMNS = [
  ["Problem", ({ id }) => text(id)],
  ["Prompt", ({ prompt }) => text(prompt)],
  ["Answer", ({ answer }) => text(answer)],
  ["Base", ({ base_rate: rate }) => rate],
  ["Trained", ({ trained_rate: rate }) => rate],
  ["Gain", gain],
  ["Change", ({ change }) => Object.keys(CHANGES).indexOf(change)],
];

function problems({ problems: given }) {
  const all = list(given);
  if (!all.length) return null;
  const state = { change: null, query: "", column: 5, ascending: false, shown: FIRST_ROWS };
  const body = h("tbody");
  const status = h("p", { class: "quiet small", role: "status" });
  const more = h("button", { type: "button", class: "more", click: () => update({ shown: state.shown + MORE_ROWS }) });
  const sortBy = (column) => update({ column, ascending: column === state.column ? !state.ascending : column < 3 });
  const heads = COLUMNS.map(([name], column) => h("button", { type: "button", click: () => sortBy(column) }, name));
  const kinds = [null, ...Object.keys(CHANGES)];
  const count = (change) => all.filter((problem) => !change || problem.change === change).length.toLocaleString("en");
  const keep = (change) => () => update({ change, shown: FIRST_ROWS });
  const filters = kinds.map((change) => h("button", { type: "button", class: change, click: keep(change) },
    CHANGES[change] ?? "All", h("b", null, count(change))));
  const search = h("input", { type: "search", placeholder: "Find in problems", "aria-label": "Find in problems",
    input: () => update({ query: search.value.toLowerCase(), shown: FIRST_ROWS }) });

  function update(change) {
    Object.assign(state, change);
    const found = sorted(all.filter((problem) => matches(problem, state)), state);
    const left = found.length - state.shown;
    body.replaceChildren(...found.slice(0, state.shown).map(problemRow));
    status.textContent = `${plural(found.length, "problem")}${left > 0 ? `, the first ${state.shown} shown` : ""}.`;
    more.hidden = left <= 0;
    more.textContent = `Show ${Math.min(MORE_ROWS, left)} more`;
    const direction = state.ascending ? "ascending" : "descending";
    heads.forEach((head, i) => head.parentNode.setAttribute("aria-sort", i === state.column ? direction : "none"));
    filters.forEach((button, i) => button.setAttribute("aria-pressed", state.change === kinds[i]));
  }
  const table = h("table", { class: "problems" }, headRow(heads), body);
  update({});
  const about = "Solved means right in at least one attempt; rates are over all attempts that could be scored.";
  return [h("p", { class: "about" }, about), scatter(all), h("div", { class: "controls" },
    h("div", { class: "filters", role: "group", "aria-label": "Filter by change" }, filters), search), status,
  h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of problems" }, table), more];
}

const matches = (problem, { change, query }) => (!change || problem.change === change)
  && (!query || [problem.id, problem.prompt, problem.answer].some((part) => text(part).toLowerCase().includes(query)));

/** Sorted with what is not known at the end, whichever way the rest goes. */
function sorted(found, { column, ascending }) {
  const key = COLUMNS[column][1];
  const up = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  const order = (a, b) => (a == null || b == null ? (a == null) - (b == null) : up(a, b) * (ascending ? 1 : -1));
  return found.sort((a, b) => order(key(a), key(b)));
}

function problemRow(problem) {
  const num = (words) => h("span", { class: "num" }, words);
  const rate = (value, n) => h("td", { class: "rate" }, isNumber(value) ? [num(percent(value)), isNumber(n) && quiet(` of ${n}`)]
    : h("span", { class: "badge unscored" }, "not scored"));
  const up = gain(problem);
  const known = Object.hasOwn(CHANGES, problem.change);
  return h("tr", null, h("th", { scope: "row", class: "id foreign" }, text(problem.id)),
    h("td", { class: "prompt" }, folded(text(problem.prompt), 90)),
    h("td", { class: "answer" }, folded(text(problem.answer), 40)),
    rate(problem.base_rate, problem.n_base), rate(problem.trained_rate, problem.n_trained),
    h("td", { class: "rate" }, isNumber(up) && [num(fixed(100 * up, 0, true)), dumbbell(problem)]),
    h("td", { class: known ? `change ${problem.change}` : "change" }, known ? CHANGES[problem.change] : text(problem.change)));
}

/** Text that stays one line until it is asked for. */
function folded(words, limit) {
  if (words.length <= limit && !words.includes("\n")) return h("span", { class: "foreign" }, words);
  const start = `${words.slice(0, limit).replaceAll("\n", " ⏎ ")}…`;
  return h("details", { class: "folded" }, h("summary", { class: "foreign" }, start), h("div", { class: "foreign" }, words));
}

function dumbbell({ base_rate: from, trained_rate: to }) {
  const x = scale([0, 1], [4, 68]);
  return s("svg", { viewBox: "0 0 72 12", class: `dumbbell ${directionOf(to - from)}`, "aria-hidden": "true" },
    s("path", { d: "M4 6H68", class: "track" }), s("path", { d: `M${x(from)} 6H${x(to)}`, class: "whisker" }),
    s("circle", { cx: x(from), cy: 6, r: 3, class: "from" }), s("circle", { cx: x(to), cy: 6, r: 3.5, class: "to" }));
}

const directionOf = (difference) => (difference > 0 ? "good" : difference < 0 ? "bad" : "even");

/** Problems with the same two rates share one bubble, its area their number. */
function bubblesOf(all) {
  const groups = new Map();
  for (const problem of all.filter((one) => gain(one) !== null)) {
    const key = `${problem.base_rate} ${problem.trained_rate}`;
    if (!groups.has(key)) groups.set(key, { from: problem.base_rate, to: problem.trained_rate, members: [] });
    groups.get(key).members.push(problem);
  }
  return [...groups.values()].sort((a, b) => a.from - b.from || a.to - b.to);
}

function scatter(all) {
  const bubbles = bubblesOf(all);
  if (!bubbles.length) return null;
  const most = Math.max(...bubbles.map(({ members }) => members.length));
  const count = (sign) => all.filter((one) => Math.sign(gain(one) ?? 0) === sign).length.toLocaleString("en");
  const [up, down] = [count(1), count(-1)];
  const label = `Rate of right answers by problem, before and after training: ${up} problems rose, ${down} fell`;
  const readout = h("div", { class: "picked", "aria-live": "polite" });
  const holder = h("div", { class: "plot" });
  const radius = ({ members }) => Math.max(3.5, 13 * Math.sqrt(members.length / most));
  let view = {};

  const show = (i) => {
    readout.replaceChildren(...membersOf(bubbles[i]));
    const { from, to } = bubbles[i];
    view.cursor?.replaceChildren(s("circle", { cx: view.x(from), cy: view.y(to), r: radius(bubbles[i]) + 3 }));
  };
  const nearest = (event) => {
    const { left, top } = holder.getBoundingClientRect();
    const far = ({ from, to }) => Math.hypot(view.x(from) - event.clientX + left, view.y(to) - event.clientY + top);
    return bubbles.reduce((best, bubble, i) => (far(bubble) < far(bubbles[best]) ? i : best), 0);
  };
  const draw = (size) => {
    const margin = { top: 10, right: 14, bottom: 40, left: 64 };
    const x = scale([0, 1], [margin.left + 12, size - margin.right - 12]);
    const y = scale([0, 1], [size - margin.bottom - 12, margin.top + 12]);
    const marks = ticks([0, 1], 5);
    const [xName, yName] = SIDES.map((side) => `rate of right answers: ${labelOf(side).slice(0, 30)}`);
    view = { x, y, cursor: s("g", { class: "cursor" }) };
    return s("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": label },
      axes({ x, y, width: size, height: size, margin, xTicks: marks, yTicks: marks, xFormat: percent, yFormat: percent, xName, yName }),
      s("line", { x1: x(0), y1: y(0), x2: x(1), y2: y(1), class: "diagonal" }),
      bubbles.map((bubble) => s("circle", { cx: x(bubble.from), cy: y(bubble.to), r: radius(bubble),
        class: `bubble ${directionOf(bubble.to - bubble.from)}` })),
      s("text", { x: x(0.04), y: y(0.96), class: "corner good" }, `rose: ${up}`),
      s("text", { x: x(0.96), y: y(0.02), "text-anchor": "end", class: "corner bad" }, `fell: ${down}`), view.cursor);
  };
  const legends = quiet("area is the number of problems");
  const plot = steppable(mount(holder, draw), label, bubbles.length, show, nearest);
  show(bubbles.length - 1);
  const caption = h("figcaption", null, h("h3", null, "Each problem before and after ", legends));
  return h("figure", { class: "chart scatter" }, caption, plot, readout);
}

function membersOf({ from, to, members }) {
  const some = members.slice(0, 8);
  const rest = members.length - some.length;
  const start = (prompt) => ` ${text(prompt).slice(0, 120)}`;
  const item = ({ id, prompt }) => h("li", { class: "clip foreign" }, h("code", null, text(id)), start(prompt));
  return [h("p", null, h("b", null, `${percent(from)} → ${percent(to)}`), ` ${plural(members.length, "problem")}`),
    h("ul", null, some.map(item), rest > 0 && h("li", null, `and ${rest.toLocaleString("en")} more`))];
}

// ------------------------------------------------------------------------------------------------------------- rollouts

const KINDS = {
  right: ["●", "right"], wrong: ["○", "wrong"], partial: ["◐", "partly right"],
  truncated: ["⋯", "truncated"], unscored: ["?", "not scored"], error: ["!", "error"],
};
const LIKELY = [[0.9, "≥ 90%"], [0.5, "50–90%"], [0.2, "20–50%"], [0.05, "5–20%"], [0.01, "1–5%"], [0, "< 1%"]];
const ATTEMPTS = 4;
const EXAMPLES = 20;
// Controls would be invisible, or turn the reading direction of their neighbours; joiners stay, for emoji need them.
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const codePoint = (control) => `⟨U+${control.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
const visible = (token) => token.replace(CONTROLS, codePoint).replaceAll("\n", "⏎\n");

const scoreKind = (score) => (!isNumber(score) ? "unscored" : score >= 1 ? "right" : score <= 0 ? "wrong" : "partial");
/** Truncated is not failed, and not scored is not wrong: each is a kind of its own. */
const kindOf = ({ outcome, score }) => (outcome === "error" || outcome === "truncated" ? outcome : scoreKind(score));

function marks(rollouts) {
  const kinds = list(rollouts).map(kindOf);
  const tally = (kind) => kinds.filter((one) => one === kind).length;
  const spoken = Object.keys(KINDS).filter(tally).map((kind) => `${tally(kind)} ${KINDS[kind][1]}`).join(", ");
  return h("span", { class: "marks", role: "img", "aria-label": spoken || "none" },
    kinds.slice(0, 16).map((kind) => h("i", { class: kind }, KINDS[kind][0])), kinds.length > 16 && "…");
}

function badges({ outcome, score }) {
  const kind = scoreKind(score);
  const ended = { truncated: "⋯ truncated: a limit ended it", error: "! error: the machinery failed" }[outcome];
  const words = kind === "unscored" ? "? not scored" : `${ended ? "" : `${KINDS[kind].join(" ")}, `}score ${short(score)}`;
  return [ended && h("span", { class: `badge ${outcome}` }, ended),
    h("span", { class: `badge ${kind} ${ended ? "calm" : ""}` }, words)];
}

const tokenFacts = new WeakMap();

function tokenSpan({ tokens, logprobs, advantage }, i) {
  const logprob = list(logprobs)[i];
  const level = isNumber(logprob) ? LIKELY.findIndex(([least]) => Math.exp(logprob) >= least) : null;
  const span = h("span", { class: level === null ? "t unknown" : `t p${level}`, tabindex: i ? -1 : 0 }, visible(text(tokens[i])));
  tokenFacts.set(span, { token: text(tokens[i]), logprob, advantage, place: `token ${i + 1} of ${tokens.length}` });
  return span;
}

function rolloutCard(rollout, name) {
  const { advantage, explanation } = rollout;
  const tokens = list(rollout.tokens);
  const logprobs = list(rollout.logprobs).filter(isNumber);
  const sum = logprobs.reduce((total, value) => total + value, 0);
  const facts = logprobs.length > 0 && [plural(tokens.length, "token"), `log-prob ${fixed(sum, 1)} nats`];
  const gained = isNumber(advantage) && `advantage ${fixed(advantage, 2, true)}`;
  return h("article", { class: `rollout ${kindOf(rollout)}`, "aria-label": name },
    h("header", null, badges(rollout), h("span", { class: "quiet small" }, joined([facts, gained].flat(), " · "))),
    h("div", { class: "tokens foreign", role: "group", "aria-label": "Tokens: arrow keys read their log-probs" },
      tokens.length ? tokens.map((_, i) => tokenSpan(rollout, i)) : quiet("nothing was written")),
    explanation && h("p", { class: "quiet small foreign" }, text(explanation)));
}

/** The first few, and the others when asked for. */
function someOf(items, count, make, noun, place) {
  let shown = 0;
  const grow = () => {
    place.append(...items.slice(shown, shown + count).map((item, i) => make(item, shown + i)));
    shown = Math.min(items.length, shown + count);
    const left = items.length - shown;
    more.hidden = left === 0;
    const of = left > count ? ` of ${left.toLocaleString("en")}` : "";
    more.textContent = `Show ${plural(Math.min(count, left), `more ${noun}`)}${of}`;
  };
  const more = h("button", { type: "button", class: "more", click: grow });
  grow();
  return [place, more];
}

function column([title, given]) {
  const card = (rollout, i) => rolloutCard(rollout, joined([title, `attempt ${i + 1}`], " "));
  const cards = list(given).length ? someOf(list(given), ATTEMPTS, card, "attempt", h("div")) : quiet("no attempts kept");
  return h("section", { class: "column" }, title && h("h3", null, title), cards);
}

/** A problem with its attempts, which become nodes only when it is opened. */
function example({ prompt, answer }, name, summary, columns, open) {
  const body = h("div", { class: "body" });
  const gold = answer != null && h("p", { class: "small" }, quiet("Gold answer "), h("b", { class: "foreign" }, text(answer)));
  const asked = h("div", { class: "asked foreign" }, text(prompt));
  const toggle = () => body.firstChild ?? fill(body, null, asked, gold, h("div", { class: "columns" }, columns.map(column)));
  if (open) toggle();
  const start = text(prompt).slice(0, 160).replace(/\s+/g, " ");
  return h("details", { class: "example", open, toggle },
    h("summary", null, h("span", { class: "name" }, name), h("span", { class: "clip foreign" }, start), summary), body);
}

function key() {
  const mark = ([kind, [glyph, name]]) => h("span", { class: "marks" }, h("i", { class: kind }, glyph), ` ${name}`);
  const shade = ([, name], i) => h("span", { class: `t p${i}` }, name);
  return h("div", { class: "key small" }, h("span", null, quiet("Chance the model gave the token"), LIKELY.map(shade)),
    h("span", null, Object.entries(KINDS).map(mark)));
}

function examples({ examples: given }) {
  if (!list(given).length) return null;
  const pair = (one) => h("span", { class: "pair" }, marks(one.base), quiet("→"), marks(one.trained));
  const columns = (one) => SIDES.map((side) => [labelOf(side), one[side]]);
  const make = (one, i) => example(one, text(one.problem_id), pair(one), columns(one), i === 0);
  return [key(), someOf(given, EXAMPLES, make, "problem", h("div", { class: "examples" }))];
}

function trainingRollouts({ training: run, examples: shown }) {
  const given = list(run?.rollouts);
  if (!given.length) return null;
  const name = ({ step, problem_id: id }) => `step ${text(step)} · ${text(id)}`;
  const make = (group) => example(group, name(group), marks(group.rollouts), [["", group.rollouts]]);
  const about = "Each line is one group: the attempts at one problem in one step, whose rewards set one another's advantages.";
  const groups = someOf(given, EXAMPLES, make, "group", h("div", { class: "examples single" }));
  return [h("p", { class: "about" }, about), !list(shown).length && key(), groups];
}

// ------------------------------------------------------------------------------------------------- the tokens' tooltip

function tokenTip(tip, { token, logprob, advantage, place }) {
  const row = (name, value) => h("div", null, h("dt", null, name), h("dd", null, value));
  const sure = isNumber(logprob);
  tip.replaceChildren(h("code", { class: "foreign" }, JSON.stringify(token).replace(CONTROLS, codePoint)), h("dl", null,
    row("log-prob", sure ? `${fixed(logprob, 3)} nats` : "not known"),
    row("probability", sure ? percent(Math.exp(logprob), logprob < -7 ? 4 : 1) : "not known"),
    row("advantage", isNumber(advantage) ? fixed(advantage, 3, true) : "none")), h("small", null, place));
}

/** Above the token, or below where there is no room above. */
function placeTip(tip, target) {
  tip.hidden = false;
  const box = target.getClientRects()[0] ?? target.getBoundingClientRect();
  const above = box.top > tip.offsetHeight + 10;
  tip.style.left = `${clamp(box.left, 8, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${above ? box.top - tip.offsetHeight - 6 : box.bottom + 6}px`;
}

/** One tooltip for all tokens, by pointer or keyboard; arrow keys move within a rollout, so that it is a single tab stop. */
function listenForTokens() {
  const tip = document.getElementById("tip");
  const hide = () => (tip.hidden = true);
  const show = ({ target }) => {
    document.querySelector("[aria-describedby=tip]")?.removeAttribute("aria-describedby");
    if (!tokenFacts.has(target)) return hide();
    target.setAttribute("aria-describedby", "tip");
    tokenTip(tip, tokenFacts.get(target));
    placeTip(tip, target);
  };
  const move = (event) => {
    const { key: pressed, target } = event;
    if (pressed === "Escape") hide();
    if (!tokenFacts.has(target)) return;
    const { firstChild: Home, lastChild: End } = target.parentNode;
    const next = { ArrowRight: target.nextSibling, ArrowLeft: target.previousSibling, Home, End }[pressed];
    if (!next) return;
    event.preventDefault();
    target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  };
  for (const name of ["pointerover", "focusin"]) document.addEventListener(name, show);
  document.addEventListener("keydown", move);
  const follow = () => {
    const { activeElement: token } = document;
    if (tokenFacts.has(token) && !tip.hidden) placeTip(tip, token);
    else hide();
  };
  document.addEventListener("scroll", follow, { passive: true, capture: true });
}

// ------------------------------------------------------------------------------------------------------------- the page

function config({ training: run }) {
  if (run?.config == null) return null;
  const json = h("pre", { class: "foreign", tabindex: 0 }, JSON.stringify(run.config, null, 2));
  return h("details", null, h("summary", null, "What the training ran with"), json);
}

const SECTIONS = [
  ["changes", "Before and after", changed], ["in-use", "Bare and in use", bareAndInUse], ["pass-at-k", "pass@k", passAtK],
  ["matched", "Against the base at another temperature", matchedBase], ["calibration", "Calibration", calibration],
  ["training", "Training", training], ["problems", "Problems", problems], ["rollouts", "Rollouts before and after", examples],
  ["training-rollouts", "Rollouts during training", trainingRollouts], ["config", "Configuration", config],
];

/** A section that cannot be drawn says so, and takes no other with it. */
function drawn(name, draw) {
  try {
    return [draw(page.comparison)].flat().filter(Boolean);
  } catch (error) {
    console.error(error);
    return [h("p", { class: "failed", role: "alert" }, `${name} could not be drawn: ${error.message}`)];
  }
}

function main() {
  const all = SECTIONS.map(([id, name, draw]) => ({ id, name, nodes: drawn(name, draw) }));
  const sections = all.filter(({ nodes }) => nodes.length);
  const nav = h("nav", { "aria-label": "Sections" }, sections.map(({ id, name }) => h("a", { href: `#${id}` }, name)));
  const heading = (id, name) => h("h2", { id: `${id}-title` }, name);
  const section = ({ id, name, nodes }) => h("section", { id, "aria-labelledby": `${id}-title` }, heading(id, name), nodes);
  fill(document.getElementById("header"), null, drawn("The header", header), nav);
  fill(document.getElementById("main"), null, sections.map(section));
  listenForTokens();
}

main();
