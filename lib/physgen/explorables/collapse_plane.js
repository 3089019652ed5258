// n points a_μ of the plane and their noised law p_emp(x) = (1/n) Σ_μ N(x; s a_μ, Δ 1), s = e^{−t}, Δ = 1 − e^{−2t}. At the probe x:
//   w_μ = softmax(−|x − s a_μ|²/2Δ),   Y₂ = Σ_μ w_μ²,   S = (s Σ_μ w_μ a_μ − x)/Δ,
// what physgen.memorization.collapse computes. Means are over ⌈480/n⌉ noisy points x = s a_μ + √Δ z of each datum: of Y₂, and of
// log n + log w_μ, the information that x holds on its origin. That is at most log n, and at most what a Gaussian of the covariance C of
// the points would know, ½ log det(1 + C/(e^{2t} − 1)); these two meet at t_C. Random words: copy r of datum μ takes for z the first
// normal pair of the counter (r, 0, 1, 1 + μ), the k-th point that is added at random that of (k, 0, 2, 1), clipped to the square.

const DEFAULTS = { t: 0.3, probe: [0.5, 0.5], seed: 1 };
const MOST = 60, REACH = 3.2, EDGE = 3, CELLS = 96, DRAWS = 480;
const LOG_T = { min: -2.5, max: 0.5, step: 0.02 };
const GRID = Array.from({ length: 61 }, (_, i) => LOG_T.min + i / 20);

// ---- what is computed

const noised = (t) => ({ s: Math.exp(-t), delta: -Math.expm1(-2 * t) });

/** The weights of the points for a noisy (x, y), into `w`; log Σ_μ exp(−|x − s a_μ|²/2Δ) comes back. */
function attend(points, x, y, { s, delta }, w) {
  let top = -Infinity, sum = 0;
  for (let k = 0; k < points.length; k++) {
    const dx = x - s * points[k][0], dy = y - s * points[k][1];
    w[k] = -(dx * dx + dy * dy) / (2 * delta);
    if (w[k] > top) top = w[k];
  }
  for (let k = 0; k < points.length; k++) sum += w[k] = Math.exp(w[k] - top);
  for (let k = 0; k < points.length; k++) w[k] /= sum;
  return top + Math.log(sum);
}

/** What the score says at (x, y). */
function probed(points, [x, y], { s, delta }) {
  const weights = new Float64Array(points.length);
  const logSum = attend(points, x, y, { s, delta }, weights);
  const mean = [0, 1].map((a) => weights.reduce((sum, w, k) => sum + w * points[k][a], 0));
  const logDensity = logSum - Math.log(2 * Math.PI * delta * points.length);
  const score = [(s * mean[0] - x) / delta, (s * mean[1] - y) / delta];
  return { weights: Array.from(weights), y2: dot(weights, weights), mean, score, logDensity };
}

/** Means over noisy points: of Y₂, with its standard error, and of the information on the origin. */
function averaged(points, noise, law) {
  const n = points.length, copies = Math.ceil(DRAWS / n), w = new Float64Array(n), width = Math.sqrt(law.delta);
  let sum = 0, squares = 0, information = 0;
  for (let mu = 0; mu < n; mu++) {
    for (let r = 0; r < copies; r++) {
      const [z0, z1] = noise(mu, r);
      const logSum = attend(points, law.s * points[mu][0] + width * z0, law.s * points[mu][1] + width * z1, law, w);
      const y2 = dot(w, w);
      sum += y2;
      squares += y2 * y2;
      information += Math.log(n) - (z0 * z0 + z1 * z1) / 2 - logSum;
    }
  }
  const count = n * copies, y2 = sum / count;
  return { y2, error: Math.sqrt(Math.max(0, squares / count - y2 * y2) / count), information: information / count };
}

/** Trace and determinant of the covariance of the points. */
function spread(points) {
  const mean = (f) => points.reduce((sum, p) => sum + f(p), 0) / points.length;
  const [a, b] = [mean((p) => p[0]), mean((p) => p[1])];
  const [xx, xy, yy] = [mean((p) => (p[0] - a) ** 2), mean((p) => (p[0] - a) * (p[1] - b)), mean((p) => (p[1] - b) ** 2)];
  return { trace: xx + yy, det: Math.max(0, xx * yy - xy * xy) };
}

const gaussianInformation = ({ trace, det }, t) => { const u = Math.expm1(2 * t); return 0.5 * Math.log1p((trace + det / u) / u); };

/** Where it is log n: (n² − 1) u² − u tr C − det C = 0 with u = e^{2t} − 1. */
function collapseTime({ trace, det }, n) {
  const q = n * n - 1;
  return 0.5 * Math.log1p((trace + Math.sqrt(trace * trace + 4 * q * det)) / (2 * q));
}

/** The part of the square [−r, r]² that is nearest to centre k, as a polygon. */
function cell(centres, k, r) {
  const [a, b] = centres[k];
  let polygon = [[-r, -r], [r, -r], [r, r], [-r, r]];
  for (const [c, d] of centres) {
    if (c === a && d === b) continue;
    const side = ([x, y]) => (x - (a + c) / 2) * (c - a) + (y - (b + d) / 2) * (d - b); // negative: nearer to k
    polygon = polygon.flatMap((p, i, all) => {
      const q = all[(i + 1) % all.length], u = side(p), v = side(q);
      const kept = u <= 0 ? [p] : [];
      return u * v < 0 ? [...kept, [p[0] + (u / (u - v)) * (q[0] - p[0]), p[1] + (u / (u - v)) * (q[1] - p[1])]] : kept;
    });
  }
  return polygon;
}

function sentence({ points, t, average, tC }) {
  const logN = Math.log(points.length), share = 1 / average.y2;
  const who = average.y2 > 0.9 ? "one datum has nearly all the weight, and the score copies" : `about ${fixed(share, share < 10 ? 1 : 0)} of ${points.length} points share the weight`;
  return `t = ${timeText(t)}, ${t > tC ? "above" : "below"} the collapse time ${timeText(tC)}: a noisy point knows ${fixed(average.information)} of the ${fixed(logN)} nats that name a datum; ${who}.`;
}

const timeText = (t) => fixed(t, t < 0.1 ? 3 : 2);

// ---- what is seen

const PLANE_CSS = `
.pgx-ground { cursor: crosshair; touch-action: manipulation; }
`;
const WEIGHT = { stroke: color(2), "stroke-linecap": "round" };

/** The plane: field, cells, points with their weights, and the probe, which is dragged or moved by the arrow keys. */
function planeView(host, state, { move, tap }) {
  const picture = chart(host, { alt: "plane of the two coordinates, with points and a probe", role: "group" });
  const paint = underlay(host, "density of the noised points, or the field of their score");
  const coarse = h("canvas", { width: CELLS, height: CELLS });
  const place = Array.from({ length: CELLS }, (_, i) => REACH * ((2 * i + 1) / CELLS - 1));
  const ground = h("rect", { class: "pgx-ground", fill: "transparent" });
  const { handle, toPoint } = planeHandle(picture, { name: "probe", reach: REACH, at: () => state.probe, move });
  picture.top.append(ground, handle);
  ground.addEventListener("click", (event) => tap(toPoint(event), (28 * REACH) / picture.box.width));
  const layout = () => {
    const axis = (label) => ({ range: [-REACH, REACH], label });
    picture.layout({ x: axis("$x_1$"), y: axis("$x_2$"), grid: false });
    // Again, now that the width is known: the plane is a square.
    picture.layout({ x: axis("$x_1$"), y: axis("$x_2$"), grid: false, height: picture.box.width + 54 });
    const { left, top, width, height } = picture.box;
    attributes(ground, { x: left, y: top, width, height });
  };
  const density = (law, rgb) => {
    const values = new Float64Array(CELLS * CELLS);
    for (const [a, b] of state.points) {
      const along = (m) => place.map((x) => Math.exp(-((x - law.s * m) ** 2) / (2 * law.delta)));
      const across = along(a), up = along(b);
      for (let i = 0; i < values.length; i++) values[i] += across[i % CELLS] * up[CELLS - 1 - Math.floor(i / CELLS)];
    }
    const top = values.reduce((a, b) => Math.max(a, b));
    const image = new ImageData(CELLS, CELLS);
    values.forEach((value, i) => image.data.set([...rgb, 190 * Math.sqrt(value / top)], 4 * i));
    coarse.getContext("2d").putImageData(image, 0, 0);
  };
  const arrows = (pen, law) => {
    const { X, Y } = picture, gap = (2 * REACH) / 15, w = new Float64Array(state.points.length);
    for (let i = 0; i < 225; i++) {
      const x = gap * ((i % 15) + 0.5) - REACH, y = gap * (Math.floor(i / 15) + 0.5) - REACH;
      attend(state.points, x, y, law, w);
      const pull = [0, 1].map((a) => w.reduce((sum, v, k) => sum + v * law.s * state.points[k][a], 0) - (a ? y : x)); // Δ S
      const size = Math.hypot(...pull), length = Math.min(0.8 * gap, size);
      const [ux, uy] = pull.map((v) => (length * v) / (size || 1)), tip = [X(x + ux), Y(y + uy)], back = [X(x) - tip[0], Y(y) - tip[1]];
      pen.moveTo(X(x), Y(y));
      pen.lineTo(...tip);
      for (const turn of [0.35, -0.35]) { pen.moveTo(...tip); pen.lineTo(tip[0] + 0.4 * (back[0] - turn * back[1] * 2), tip[1] + 0.4 * (back[1] + turn * back[0] * 2)); }
    }
  };
  const update = ({ law, found, nearest }) => {
    paint(picture, (pen, ink) => {
      const { box } = picture;
      if (state.field === "density") {
        density(law, [1, 3, 5].map((at) => parseInt(ink(1).slice(at, at + 2), 16)));
        pen.drawImage(coarse, box.left, box.top, box.width, box.height);
      } else {
        Object.assign(pen, { strokeStyle: ink(1), lineWidth: 1.2 });
        pen.beginPath();
        arrows(pen, law);
        pen.stroke();
      }
    });
    const { X, Y } = picture, [px, py] = [X(state.probe[0]), Y(state.probe[1])];
    const centres = state.points.map(([a, b]) => [law.s * a, law.s * b]), at = centres.map(([a, b]) => [X(a), Y(b)]);
    const outline = (k) => `M${cell(centres, k, REACH).map(([a, b]) => `${X(a).toFixed(1)} ${Y(b).toFixed(1)}`).join("L")}z`;
    const line = ([cx, cy], k) => h("path", { d: `M${px} ${py}L${cx} ${cy}`, ...WEIGHT, "stroke-width": 1 + 4 * found.weights[k], "stroke-opacity": Math.sqrt(found.weights[k]) });
    const dotAt = ([cx, cy], k) => h("circle", { cx, cy, r: 5, fill: color("paper"), stroke: color("ink"), "stroke-width": 1.5 }, h("title", {}, `w = ${fixed(found.weights[k], 3)}`));
    const inked = ([cx, cy], k) => h("circle", { cx, cy, r: 4.3, fill: color(2), "fill-opacity": Math.sqrt(found.weights[k]) });
    const [mx, my] = [X(law.s * found.mean[0]), Y(law.s * found.mean[1])];
    picture.marks.replaceChildren(
      h("path", { d: outline(nearest), fill: color(2), "fill-opacity": 0.12 }),
      h("path", { d: centres.map((_, k) => outline(k)).join(""), ...stroke("muted", null, 0.8) }),
      ...at.map(line).filter((_, k) => found.weights[k] > 0.002),
      ...at.map(dotAt), ...at.map(inked),
      h("path", { d: `M${mx - 6} ${my - 6}l12 12m0 -12l-12 12`, ...stroke(3, null, 2.5) }),
    );
    handle.setAttribute("transform", `translate(${px} ${py})`);
    handle.setAttribute("aria-valuenow", state.probe[0]);
    handle.setAttribute("aria-valuetext", `x = ${fixed(state.probe[0])}, ${fixed(state.probe[1])}: nearest is point ${nearest + 1} with weight ${fixed(found.weights[nearest])}, Y₂ = ${fixed(found.y2)}`);
  };
  return { layout, update };
}

const LAW = stroke(1), ORIGIN = stroke(3, "6 3"), LEVEL = stroke("ink", "5 4", 1.5), SHARED = stroke(2), MARK = stroke("muted", "2 3", 1.5);

/** Information, and Y₂, against log t: the reader's points at all times. */
function timesView(state) {
  const hosts = [h("div"), h("div")];
  const above = chart(hosts[0], { alt: "information against time: of a Gaussian, of the noisy points, and log n" });
  const below = chart(hosts[1], { alt: "mean participation ratio against time" });
  const update = ({ curve, gauss, average, spread: C, tC }) => {
    const n = state.points.length, logN = Math.log(n), now = Math.log10(state.t), log = Math.log10(tC);
    const x = { range: [LOG_T.max, LOG_T.min], label: "$\\log_{10} t$, from noise to data" };
    above.layout({ x, y: { range: [0, 1.7 * logN], label: "nats" }, height: 200, left: 60 });
    below.layout({ x, y: { range: [0, 1.05], label: "mean $Y_2$" }, height: 190, left: 60 });
    const lines = ({ X, box }) => [
      h("path", { d: `M${X(log)} ${box.top}v${box.height}`, ...MARK }),
      h("path", { d: `M${X(now)} ${box.top}v${box.height}`, ...stroke(4, null, 1.5) }),
    ];
    const through = ({ X, Y }, values) => pathThrough(GRID.map(X), values.map(Y));
    const bullet = (picture, value, name) => h("circle", { cx: picture.X(now), cy: picture.Y(value), r: 4.5, fill: color(name), stroke: color("paper"), "stroke-width": 1 });
    above.marks.replaceChildren(
      ...lines(above),
      h("path", { d: through(above, gauss), ...LAW }),
      h("path", { d: `M${above.box.left} ${above.Y(logN)}h${above.box.width}`, ...LEVEL }),
      h("path", { d: through(above, curve.map((a) => a.information)), ...ORIGIN }),
      bullet(above, gaussianInformation(C, state.t), 1), bullet(above, average.information, 3),
    );
    above.top.replaceChildren(h("text", { x: above.X(log) - 5, y: above.box.top + 14, "text-anchor": "end" }, ...texSvg("$t_C$")));
    below.marks.replaceChildren(
      ...lines(below),
      h("path", { d: `M${below.box.left} ${below.Y(1 / n)}h${below.box.width}`, ...LEVEL }),
      h("path", { d: through(below, curve.map((a) => a.y2)), ...SHARED }),
      bullet(below, average.y2, 2),
    );
  };
  const swatch = (style) => h("path", { d: "M1 7h28", ...style });
  const key = legend([
    { label: "$I(a;x_t)$, a Gaussian as wide as the points", mark: swatch(LAW) },
    { label: "what noisy points know of their origin", mark: swatch(ORIGIN) },
    { label: "$\\log n$; below, $1/n$", mark: swatch(LEVEL) },
    { label: "mean $Y_2$", mark: swatch(SHARED) },
  ]);
  return { el: h("div", { class: "pgx-panel" }, ...hosts, key), update };
}

function render({ model, el }) {
  const given = { ...DEFAULTS, ...model.get("params") }, key = words(given.seed), drawn = [];
  const state = { points: given.points, t: given.t, probe: given.probe, field: "density", added: 0 };
  const noise = (mu, r) => ((drawn[mu] ??= [])[r] ??= normalPair(...philox(r, 0, 1, 1 + mu, key)));
  const { root, dispose } = mount(el, model, () => { plane.layout(); draw(); });
  const host = h("div"), left = h("div", { class: "pgx-panel" }, host), status = spoken();
  const nearestTo = ([x, y]) => {
    const s = Math.exp(-state.t), distance = state.points.map(([a, b]) => Math.hypot(x - s * a, y - s * b));
    return distance.reduce((best, value, k) => (value < distance[best] ? k : best), 0);
  };
  const plane = planeView(host, state, {
    move: (to) => { state.probe = to.map((v) => Number(Math.min(REACH, Math.max(-REACH, v)).toFixed(2))); later(); },
    tap: (at, near) => {
      const k = nearestTo(at), s = Math.exp(-state.t);
      if (Math.hypot(at[0] - s * state.points[k][0], at[1] - s * state.points[k][1]) < near) remove(k);
      else add(at.map((v) => v / s));
    },
  });
  const times = timesView(state);
  const numbers = readings({ n: "$n$", y2: "$Y_2$ at the probe", mean: "mean $Y_2$", known: "known of the origin", law: "$I(a;x_t)$", logN: "$\\log n$" });
  let all = null; // what depends on the points alone

  function draw() {
    const { points, t, probe } = state, n = points.length, law = noised(t);
    if (!all) {
      const C = spread(points);
      all = { spread: C, tC: collapseTime(C, n), curve: GRID.map((v) => averaged(points, noise, noised(10 ** v))), gauss: GRID.map((v) => gaussianInformation(C, 10 ** v)) };
    }
    const now = { ...all, law, found: probed(points, probe, law), average: averaged(points, noise, law), nearest: nearestTo(probe) };
    const information = gaussianInformation(all.spread, t), { found, average } = now;
    plane.update(now);
    times.update(now);
    addButton.disabled = hereButton.disabled = n >= MOST;
    removeButton.disabled = n <= 2;
    status.say(sentence({ points, t, average, tC: all.tC }));
    numbers.set({ n: String(n), y2: fixed(found.y2, 3), mean: `${fixed(average.y2, 3)} ± ${fixed(average.error, 3)}`, known: fixed(average.information), law: fixed(information), logN: fixed(Math.log(n)) });
    Object.assign(root.dataset, { n, t, tC: all.tC, logN: Math.log(n), y2: found.y2, logDensity: found.logDensity, nearest: now.nearest, meanY2: average.y2, information: average.information, gaussian: information });
    for (const [name, values] of Object.entries({ points, probe, weights: found.weights, score: found.score })) root.dataset[name] = JSON.stringify(values);
  }
  const later = oncePerFrame(draw);
  const renew = (points) => { state.points = points; all = null; later(); };
  const add = (at) => { if (state.points.length < MOST) renew([...state.points, at.map((v) => Number(Math.min(EDGE, Math.max(-EDGE, v)).toFixed(3)))]); };
  const remove = (k) => { if (state.points.length > 2) renew(state.points.filter((_, j) => j !== k)); };
  const time = slider({ label: "time $t$", ...LOG_T, value: Math.log10(given.t), show: (v) => timeText(10 ** v), change: (v) => { state.t = 10 ** v; later(); } });
  const addButton = button("Add a point", () => add(normalPair(...philox(state.added++, 0, 2, 1, key))), true);
  const hereButton = button("Add at the probe", () => add(state.probe.map((v) => v / Math.exp(-state.t))));
  const removeButton = button("Remove nearest", () => remove(nearestTo(state.probe)));
  const reset = button("Reset", () => { Object.assign(state, { t: given.t, probe: given.probe, added: 0 }); time.set(Math.log10(given.t)); renew(given.points); });
  const field = choice("field", { density: "density", score: "score" }, "density", (name) => { state.field = name; later(); });
  const disc = (opacity) => [h("circle", { cx: 15, cy: 7, r: 5, fill: color("paper"), stroke: color("ink"), "stroke-width": 1.5 }), h("circle", { cx: 15, cy: 7, r: 4.3, fill: color(2), "fill-opacity": opacity })];
  const marks = legend([
    { label: "point $ae^{-t}$, filled by its weight", mark: h("g", {}, ...disc(0.8)) },
    { label: "probe", mark: h("path", { d: "M15 0L22 7L15 14L8 7z", fill: color(4) }) },
    { label: "where the score points", mark: h("path", { d: "M10 2l10 10m0 -10l-10 10", ...stroke(3, null, 2.5) }) },
  ]);
  const bar = (...parts) => h("div", { class: "pgx-bar" }, ...parts);
  left.append(marks, bar(time.el, field.el), bar(addButton, hereButton, removeButton, reset));
  root.append(h("style", {}, PLANE_CSS), h("div", { class: "pgx-row" }, left, times.el), status.el, numbers.el);
  plane.layout();
  draw();
  return () => { dispose(); };
}

export default { render };
