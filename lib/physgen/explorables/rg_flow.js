// Couplings under a change of scale, step by step. Three maps:
//   decimation: the Ising chain of energy −K Σ s_i s_{i+1} − h Σ s_i without every other spin, exact (T ↦ T², T the transfer matrix):
//     e^{4K'} = cosh(2K + h) cosh(2K − h) / cosh² h,  e^{2h'} = e^{2h} cosh(2K + h) / cosh(2K − h);  ξ = 1 / log(λ₊/λ₋) is halved;
//   wilson: the square lattice without every other spin, neighbours (K₁) and diagonals (K₂) kept to second order: K₁' = 2K₁² + K₂, K₂' = K₁²;
//   kadanoff: Maris and Kadanoff (1978), neighbours alone: K' = (3/8) log cosh 4K. The last two shrink lengths by √2.

const DEFAULTS = { map: "decimation", starts: {}, paths: [], steps: 24, taken: 6 };

// ---- what is computed

/** log cosh without overflow. */
const logCosh = (x) => Math.abs(x) + Math.log1p(Math.exp(-2 * Math.abs(x))) - Math.LN2;

/** The chain's 1 / log(λ₊/λ₋), λ± = e^K cosh h ± √(e^{2K} sinh² h + e^{−2K}), whose product is e^{2K} − e^{−2K}. */
function length([K, h]) {
  const greater = Math.cosh(h) + Math.sqrt(Math.sinh(h) ** 2 + Math.exp(-4 * K));
  return 1 / (2 * Math.log(greater) - Math.log(-Math.expm1(-4 * K)));
}

const MAPS = {
  decimation: {
    name: "chain, exact", axes: ["$K$", "$h$"], ranges: [[0, 2], [-1.2, 1.2]], start: [1.4, 0.02], keys: [0.02, 0.1], shrink: 2,
    next: ([K, h]) => [(logCosh(2 * K + h) + logCosh(2 * K - h) - 2 * logCosh(h)) / 4, h + (logCosh(2 * K + h) - logCosh(2 * K - h)) / 2],
    fixed: [[0, 0]],
  },
  wilson: {
    name: "square lattice, two couplings", axes: ["$K_1$", "$K_2$"], ranges: [[0, 0.6], [-0.1, 0.42]], start: [0.38, 0], keys: [0.002, 0.02], shrink: Math.SQRT2,
    next: ([a, b]) => [2 * a * a + b, a * a],
    fixed: [[1 / 3, 1 / 9], [0, 0]],
  },
  kadanoff: {
    name: "square lattice, one coupling", axes: ["$K$", "$K'$"], ranges: [[0, 1], [0, 1]], start: [0.48, 0], keys: [0.005, 0.05], shrink: Math.SQRT2,
    next: ([K]) => [(3 / 8) * logCosh(4 * K), 0],
    fixed: [],
  },
};

/** The end of a bisection between `low`, where `above` is false, and `high`. */
function edge(above, low, high) {
  for (let k = 0; k < 60; k++) { const middle = (low + high) / 2; if (above(middle)) high = middle; else low = middle; }
  return (low + high) / 2;
}

const kadanoff = (K) => MAPS.kadanoff.next([K])[0];
MAPS.kadanoff.fixed = [[edge((K) => kadanoff(K) > K, 0.1, 1), 0], [0, 0]];

/** Does the flow of Wilson's map end in order? Beyond 1 nothing comes back, and below 10⁻³ nothing grows. */
function orders(point) {
  for (let k = 0; k < 300; k++) { point = MAPS.wilson.next(point); if (Math.abs(point[0]) > 1) return true; if (Math.max(...point.map(Math.abs)) < 1e-3) return false; }
  return false;
}

/** Where the critical line crosses K₂ = 0, and K₁ = 0, for (0, K) ↦ (K, 0). */
const CROSSING = edge((K) => orders([K, 0]), 0, 1);
/** The points (K₁, K₂) whose flow ends in the fixed point. */
const criticalLine = () => Array.from({ length: 61 }, (_, i) => -0.1 + ((CROSSING + 0.1) * i) / 60).map((K2) => [edge((K1) => orders([K1, K2]), 0, 1), K2]);

/** ν = log(scale) / log(largest eigenvalue of the map at its fixed point). */
const EXPONENTS = { wilson: Math.log(2) / 2 / Math.log((2 + Math.sqrt(10)) / 3), kadanoff: Math.log(2) / 2 / Math.log(1.5 * Math.tanh(4 * MAPS.kadanoff.fixed[0][0])) };

/** The trajectory of at most `steps` steps; it ends where it has run away. */
function trajectory(map, start, steps) {
  const path = [start];
  while (path.length <= steps && Math.max(...path.at(-1).map(Math.abs)) < 30) path.push(MAPS[map].next(path.at(-1)));
  return path;
}

const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const short = (v) => (!Number.isFinite(v) ? "∞" : v !== 0 && (Math.abs(v) < 0.001 || Math.abs(v) >= 1e4) ? v.toExponential(1).replace("-", "−").replace("e+", "e") : fixed(v, v < 10 ? 3 : 1));

function sentence({ map, start, n }, point) {
  const away = plural(n, "step");
  if (map === "decimation") {
    const [from, to] = [length(start), length(point)];
    if (!Number.isFinite(from)) return "At T = 0 the chain is ordered, ξ is infinite, and stays so.";
    return `After ${away}: ξ = ${short(to)}${n ? ` spacings of the thinned chain, ${short(from)} halved ${n === 1 ? "once" : `${n} times`}` : " lattice spacings, to be halved at each step"}. ${point[0] < 0.05 ? "Nothing but free spins is left: no phase transition." : "Every chain at T > 0 flows to K = 0."}`;
  }
  const end = map === "wilson" ? (orders(start) ? 1 : -1) : Math.sign(start[0] - MAPS.kadanoff.fixed[0][0]), near = Math.hypot(...point.map((v, i) => v - MAPS[map].fixed[0][i])) < 0.02;
  const lengths = n ? ` Lengths have shrunk by ${short(MAPS[map].shrink ** n)}.` : "";
  const fate = end > 0 ? "The flow ends in order, K → ∞." : "The flow ends in disorder, K → 0.";
  return `After ${away}${near ? ", next to the fixed point, which it leaves as it came: slowly" : ""}.${lengths} ${fate}`;
}

// ---- what is seen

const PATH = stroke(2, null, 1.4), CRITICAL = stroke(1, "8 4", 1.8), CURVE = stroke(1, null, 2), MEASURED = stroke(3, null, 1.4);

/** Arrows of a map over the plane, from each point towards its image. */
function arrows(pen, { X, Y, box }, { next, ranges: [x, y] }) {
  const across = Math.round(box.width / 34), down = Math.round(box.height / 34);
  for (let i = 0; i < across * down; i++) {
    const p = [x[0] + ((x[1] - x[0]) * ((i % across) + 0.5)) / across, y[0] + ((y[1] - y[0]) * (Math.floor(i / across) + 0.5)) / down], q = next(p);
    const from = [X(p[0]), Y(p[1])], way = [X(q[0]) - from[0], Y(q[1]) - from[1]], long = Math.hypot(...way);
    if (long < 0.5) continue;
    const size = (25 * Math.sqrt(long / (long + 20))) / long, tip = [from[0] + size * way[0], from[1] + size * way[1]], back = [-0.28 * size * way[0], -0.28 * size * way[1]];
    pen.moveTo(...from);
    pen.lineTo(...tip);
    for (const turn of [0.5, -0.5]) { pen.moveTo(...tip); pen.lineTo(tip[0] + back[0] - turn * back[1], tip[1] + back[1] + turn * back[0]); }
  }
}

/** The steps of a cobweb: up to the curve, across to the diagonal. */
const cobweb = (path) => path.slice(0, -1).flatMap(([K], i) => [[K, i ? K : 0], [K, path[i + 1][0]], [path[i + 1][0], path[i + 1][0]]]);

/** A point of a measured path with its errors. */
const cross = ({ X, Y }, x, y, ex, ey) => `M${X(x - ex)} ${Y(y)}H${X(x + ex)}M${X(x)} ${Y(y - ey)}V${Y(y + ey)}M${X(x)} ${Y(y)}h0`;

function planeView(host, state, paths, move) {
  const picture = chart(host, { alt: "plane of the couplings with the flow", role: "group" }), paint = underlay(host, "arrows of the flow"), critical = criticalLine();
  const here = () => (state.map === "kadanoff" ? [state.start[0], 0] : state.start), now = h("circle", { r: 6, fill: color(2), stroke: color("paper"), "stroke-width": 1.5 });
  let handle = null;
  const layout = () => {
    const { axes, ranges, keys } = MAPS[state.map], spec = { x: { range: ranges[0], label: axes[0] }, y: { range: ranges[1], label: axes[1] }, grid: state.map === "kadanoff" };
    picture.layout(spec);
    picture.layout({ ...spec, height: Math.min(460, picture.box.width + 54) });
    if (handle?.map === state.map) return;
    const { handle: node } = planeHandle(picture, { name: "start", reach: ranges[0][1], at: here, move, steps: keys });
    node.setAttribute("aria-valuemin", ranges[0][0]);
    const focused = handle?.node === document.activeElement;
    handle = { node, map: state.map };
    picture.top.replaceChildren(now, node);
    if (focused) node.focus();
  };
  const measured = ({ K1, K2, error1, error2, name }) => [
    h("path", { d: pathThrough(K1.map(picture.X), K2.map(picture.Y)), ...MEASURED }),
    h("path", { d: K1.map((v, i) => cross(picture, v, K2[i], error1?.[i] ?? 0, error2?.[i] ?? 0)).join(""), ...stroke(3, null, 1.6) }),
    ...K1.map((v, i) => h("circle", { cx: picture.X(v), cy: picture.Y(K2[i]), r: 3.4, fill: color(3) })),
    h("text", { x: picture.X(K1[0]), y: picture.Y(K2[0]) + 17, "text-anchor": "middle", style: "paint-order: stroke; stroke: var(--x-paper); stroke-width: 4px" }, ...texSvg(name ?? "")),
  ];
  const dot = ([x, y]) => h("circle", { cx: picture.X(x), cy: picture.Y(y), r: 5.5, fill: color("paper"), stroke: color("ink"), "stroke-width": 2 });
  const update = (path) => {
    const { X, Y } = picture, law = MAPS[state.map], web = state.map === "kadanoff", line = (points) => pathThrough(points.map((p) => X(p[0])), points.map((p) => Y(p[1])));
    paint(picture, (pen, ink) => {
      if (web) return;
      Object.assign(pen, { strokeStyle: ink("muted"), lineWidth: 1, globalAlpha: 0.75 });
      pen.beginPath();
      arrows(pen, picture, law);
      pen.stroke();
    });
    const grid = Array.from({ length: 101 }, (_, i) => [i / 100, kadanoff(i / 100)]), still = web ? law.fixed.map(([K]) => [K, K]) : law.fixed;
    picture.marks.replaceChildren(
      ...(web ? [h("path", { d: line([[0, 0], [1, 1]]), ...stroke("muted", null, 1.4) }), h("path", { d: line(grid), ...CURVE })] : []),
      ...(state.map === "wilson" ? [h("path", { d: line(critical), ...CRITICAL }), ...paths.flatMap(measured)] : []),
      // The chain without couplings: nothing moves.
      ...(state.map === "decimation" ? [h("path", { d: line([[0, -1.2], [0, 1.2]]), ...stroke("ink", null, 4) })] : []),
      ...still.map(dot),
      h("path", { d: line(web ? cobweb(path) : path), ...PATH }),
      ...(web ? [] : path.slice(1).map(([x, y]) => h("circle", { cx: X(x), cy: Y(y), r: 3, fill: color(2) }))),
    );
    const [x, y] = web ? [path.at(-1)[0], path.at(-1)[0]] : path.at(-1), inside = x <= law.ranges[0][1] && y <= law.ranges[1][1];
    attributes(now, { cx: X(x), cy: Y(y), visibility: inside && path.length > 1 ? "visible" : "hidden" });
    const [a, b] = here();
    handle.node.setAttribute("transform", `translate(${X(a)} ${Y(b)})`);
    handle.node.setAttribute("aria-valuenow", a);
    handle.node.setAttribute("aria-valuetext", law.axes.slice(0, web ? 1 : 2).map((name, i) => `${texPlain(name)} = ${fixed(state.start[i], 3)}`).join(", "));
  };
  return { layout, update, critical };
}

/** The first coupling, and for the chain the logarithm of ξ, step by step. */
function stepsView(most) {
  const host = h("div"), picture = chart(host, { alt: "what changes, against the number of steps" });
  const update = ({ map }, path, whole) => {
    const chain = map === "decimation", value = (p) => (chain ? Math.log2(length(p)) : p[0]), values = whole.map(value).filter(Number.isFinite);
    const top = chain ? Math.max(1, ...values) + 0.5 : MAPS[map].ranges[0][1], low = chain ? Math.max(-6, Math.min(0, ...values)) - 0.5 : 0;
    picture.layout({ x: { range: [0, most], label: "steps" }, y: { range: [low, top], label: chain ? "$\\mathrm{log}_2$ $\\xi$" : MAPS[map].axes[0] }, height: 240, left: 60 });
    const { X, Y, box } = picture, mark = (p, i) => h("circle", { cx: X(i), cy: Y(value(p)), r: 4, fill: color(2), stroke: color("paper") });
    const still = chain ? [] : [h("path", { d: `M${box.left} ${Y(MAPS[map].fixed[0][0])}h${box.width}`, ...stroke("ink", "1 4", 1.8) })];
    // The chain loses a factor 2, one unit, at each step: a straight line.
    picture.marks.replaceChildren(...still, h("path", { d: pathThrough(path.map((_, i) => X(i)), path.map((p) => Y(value(p)))), ...PATH }), ...path.map(mark).filter((_, i) => Number.isFinite(value(path[i]))));
  };
  return { host, update };
}

function render({ model, el }) {
  const given = { ...DEFAULTS, ...model.get("params") }, startOf = (map) => { const p = given.starts[map] ?? MAPS[map].start; return typeof p === "number" ? [p, 0] : [...p]; };
  const state = { map: given.map, start: startOf(given.map), n: given.taken };
  const { root, dispose } = mount(el, model, () => { plane.layout(); draw(); });
  const host = h("div"), status = spoken(), key = h("div"), table = h("div"), curve = stepsView(given.steps);
  const plane = planeView(host, state, given.paths, (to) => {
    state.start = MAPS[state.map].ranges.map(([low, high], i) => Number(Math.min(high, Math.max(low, to[i])).toFixed(4)));
    if (state.map === "kadanoff") state.start[1] = 0;
    later();
  });
  const numbers = {
    decimation: readings({ n: "steps", a: "$K$", b: "$h$", xi: "$\\xi$", from: "$\\xi$ at the start" }),
    wilson: readings({ n: "steps", a: "$K_1$", b: "$K_2$", shrunk: "lengths shrunk by", crossing: "critical $K_1$ at $K_2 = 0$", nu: "$\\nu$ at the fixed point" }),
    kadanoff: readings({ n: "steps", a: "$K$", star: "fixed point", shrunk: "lengths shrunk by", nu: "$\\nu$ there" }),
  };
  const swatch = (label, style) => ({ label, mark: h("path", { d: "M1 7h28", ...style }) }), begin = { label: "start", mark: h("path", { d: "M15 0L22 7L15 14L8 7z", fill: color(4) }) }, rest = { label: "fixed", mark: h("circle", { cx: 15, cy: 7, r: 5, fill: color("paper"), stroke: color("ink"), "stroke-width": 2 }) };
  const legends = () => ({
    decimation: [begin, swatch("fixed line $K = 0$", stroke("ink", null, 4)), swatch("steps", PATH)],
    wilson: [begin, rest, swatch("critical line", CRITICAL), swatch("steps", PATH), ...(given.paths.length ? [swatch("blocked samples, measured", MEASURED)] : [])],
    kadanoff: [begin, rest, swatch("$\\frac38 \\log \\cosh 4K$".replace("\\frac38", "⅜"), CURVE), swatch("steps", PATH)],
  })[state.map];

  function draw() {
    const { map, start } = state, whole = trajectory(map, start, given.steps);
    state.n = Math.min(state.n, whole.length - 1);
    const path = whole.slice(0, state.n + 1), point = path.at(-1), chain = map === "decimation", shrunk = MAPS[map].shrink ** state.n;
    plane.update(path);
    curve.update(state, path, whole);
    status.say(sentence(state, point));
    numbers[map].set({ n: String(state.n), a: short(point[0]), ...(chain ? { b: short(point[1]), xi: short(length(point)), from: short(length(start)) } : { shrunk: short(shrunk), nu: fixed(EXPONENTS[map], 4) }) });
    if (map === "wilson") numbers.wilson.set({ b: short(point[1]), crossing: fixed(CROSSING, 4) });
    if (map === "kadanoff") numbers.kadanoff.set({ star: fixed(MAPS.kadanoff.fixed[0][0], 5) });
    forward.disabled = flow.disabled = state.n >= Math.min(given.steps, whole.length - 1);
    back.disabled = state.n === 0;
    Object.assign(root.dataset, { map, steps: state.n, xi: chain ? length(point) : "", nu: EXPONENTS[map] ?? "", crossing: CROSSING });
    for (const [name, values] of Object.entries({ start, point, path, fixed: MAPS[map].fixed, critical: plane.critical })) root.dataset[name] = JSON.stringify(values);
  }
  const later = oncePerFrame(draw);
  const go = (n) => { run.stop(); state.n = n; later(); };
  // A step every quarter of a second.
  let before = 0;
  const run = animation(root, () => {
    const time = performance.now();
    if (time - before < 250) return true;
    before = time;
    state.n++;
    draw();
    return !flow.disabled;
  }, (running) => { flow.textContent = running ? "Pause" : "Flow"; });
  const forward = button("One step", () => go(state.n + 1), true), flow = button("Flow", run.toggle), back = button("Back", () => go(state.n - 1));
  const adopt = (map) => {
    Object.assign(state, { map, start: startOf(map), n: given.taken });
    key.replaceChildren(legend(legends()));
    table.replaceChildren(numbers[map].el);
    plane.layout();
  };
  const pick = choice("map", Object.fromEntries(Object.entries(MAPS).map(([name, { name: text }]) => [name, text])), state.map, (map) => { run.stop(); adopt(map); draw(); });
  const reset = button("Reset", () => { run.stop(); adopt(state.map); later(); });
  const bar = (...parts) => h("div", { class: "pgx-bar" }, ...parts);
  root.append(bar(pick.el), h("div", { class: "pgx-row" }, h("div", { class: "pgx-panel" }, host, key), h("div", { class: "pgx-panel" }, bar(forward, flow, back, reset), status.el, curve.host, table)));
  adopt(state.map);
  draw();
  return () => { run.dispose(); dispose(); };
}

export default { render };
