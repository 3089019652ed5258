// E(x) = Σ_j θ_j φ_j(x) + a x⁴ with bumps φ_j(x) = exp(−(x − c_j)²/2b²), and p_θ = e^{−E}/Z on the 801 points of a grid on [−4, 4],
// Z by the trapezoidal rule: physgen.energies.energy_models.exponential_family, whose last feature x⁴ keeps its weight a. A step is
//   θ ← θ − η (E_data φ − negatives),   negatives: E_θ φ exactly, the mean over the particles, or nothing.
// Particles follow physgen.energies.energy_models.langevin: y = x − hE′(x) + √(2h) z, kept or refused by Metropolis. Random words: move m
// of particle i takes z and the uniform from the counter (m, 0, i, 1), its first place from (0, 0, i, 2).

const DEFAULTS = { confinement: 0.04, rate: 1, particles: 60, seed: 1, negatives: "exact" };
const POINTS = 801, REACH = 4, EDGE = 3, STEP = 0.02, MOVES = 5, DEEPEST = -60;
const GRID = Array.from({ length: POINTS }, (_, i) => -REACH + (2 * REACH * i) / (POINTS - 1));
const CELL = (2 * REACH) / (POINTS - 1), OUT = GRID.filter((x) => x < -EDGE).length;
const shown = (values) => values.slice(OUT, POINTS - OUT);

// ---- what is computed

function family({ centres, width, confinement }) {
  const bump = (x, c) => Math.exp(-((x - c) ** 2) / (2 * width * width));
  const features = (x) => centres.map((c) => bump(x, c));
  const energy = (theta, x) => centres.reduce((sum, c, j) => sum + theta[j] * bump(x, c), confinement * x ** 4);
  const slope = (theta, x) => centres.reduce((sum, c, j) => sum - theta[j] * bump(x, c) * ((x - c) / (width * width)), 4 * confinement * x ** 3);
  const table = GRID.map(features);
  /** Energy and density on the grid, log Z, and the means of the features. */
  const law = (theta) => {
    const energies = GRID.map((x, i) => confinement * x ** 4 + dot(theta, table[i]));
    const low = energies.reduce((a, b) => Math.min(a, b));
    const weight = energies.map((e, i) => (i % (POINTS - 1) ? CELL : CELL / 2) * Math.exp(low - e));
    const sum = weight.reduce((a, b) => a + b);
    const logZ = Math.log(sum) - low, density = energies.map((e) => Math.exp(-e - logZ));
    const mean = centres.map((_, j) => weight.reduce((total, w, i) => total + w * table[i][j], 0) / sum);
    return { energies, low, logZ, density, mean };
  };
  const average = (xs) => centres.map((c) => xs.reduce((sum, x) => sum + bump(x, c), 0) / xs.length);
  return { energy, slope, law, average, features };
}

/** Move m of particle i, from x. */
function moved({ energy, slope }, theta, x, i, m, key) {
  const [first, second, third] = philox(m, 0, i, 1, key);
  const [z] = normalPair(first, second), y = x - STEP * slope(theta, x) + Math.sqrt(2 * STEP) * z;
  const detour = (z * z) / 2 - (x - y + STEP * slope(theta, y)) ** 2 / (4 * STEP);
  return Math.log((third + 0.5) / WORD) < energy(theta, x) - energy(theta, y) + detour ? y : x;
}

const first = (i, key) => EDGE * ((2 * (philox(0, 0, i, 2, key)[0] + 0.5)) / WORD - 1);
const largest = (values) => values.reduce((best, v) => Math.max(best, Math.abs(v)), 0);

function sentence({ steps, rule, now, likelihood, gap }) {
  const count = `${steps} step${steps === 1 ? "" : "s"}`;
  if (rule === "nothing" && now.low < DEEPEST) return `After ${count} the energy is below ${DEEPEST} and would fall for ever: nothing pushes back.`;
  if (rule === "nothing" && steps) return `After ${count} without negatives: the lowest energy is ${fixed(now.low, 1)} and sinks at every step; log-likelihood ${fixed(likelihood)} per point.`;
  const rest = gap < 0.02 ? "data and model agree on every bump" : `data and model differ by up to ${fixed(gap)} in the mean of a bump`;
  return `After ${count}: log-likelihood ${fixed(likelihood)} per point; ${rest}.`;
}

// ---- what is seen

const LAND_CSS = ".pgx .pgx-datum { cursor: grab; touch-action: none; }";
const CURVE = stroke("ink"), NEXT = stroke(3, "5 4", 1.8), LAW = stroke("ink"), DREAM = { fill: color(2), "fill-opacity": 0.55 };
const xAxis = { range: [-EDGE, EDGE], label: "$x$" };

/** The energy with the particles on it, and the data, which are dragged or moved by the arrow keys. */
function landscapeView(host, state, move) {
  const picture = chart(host, { alt: "energy against x, with data and particles on it", role: "group" });
  const toX = ({ clientX }) => EDGE * ((2 * (clientX - picture.svg.getBoundingClientRect().left - picture.box.left)) / picture.box.width - 1);
  const handles = state.points.map((_, k) => {
    const node = h("g", { class: "pgx-datum", role: "slider", tabindex: 0, "aria-label": `datum ${k + 1}; arrow keys move it`, "aria-valuemin": -EDGE, "aria-valuemax": EDGE },
      h("circle", { r: 15, fill: "transparent" }), h("circle", { r: 7, fill: color(1), stroke: color("paper"), "stroke-width": 2 }));
    drag(node, () => node.focus({ preventScroll: true }), (event) => move(k, toX(event)));
    node.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (!way) return;
      event.preventDefault();
      move(k, state.points[k] + way * (event.shiftKey ? 0.25 : 0.05));
    });
    return node;
  });
  picture.top.append(...handles);
  const update = ({ model, now, ahead }) => {
    const low = Math.min(-2, 2 * Math.floor((now.low - 0.7) / 2));
    picture.layout({ x: xAxis, y: { range: [low, 6], label: "energy $E$" }, height: 330, left: 60 });
    const { X, Y } = picture, xs = shown(GRID).map(X);
    picture.marks.replaceChildren(
      h("path", { d: pathThrough(xs, shown(ahead).map(Y)), ...NEXT }),
      h("path", { d: pathThrough(xs, shown(now.energies).map(Y)), ...CURVE }),
      ...state.particles.map((x) => h("circle", { cx: X(x).toFixed(1), cy: Y(model.energy(state.theta, x)).toFixed(1), r: 4, ...DREAM })),
    );
    handles.forEach((node, k) => {
      const x = state.points[k], e = model.energy(state.theta, x);
      node.setAttribute("transform", `translate(${X(x)} ${Y(Math.min(6, e))})`);
      node.setAttribute("aria-valuenow", x);
      node.setAttribute("aria-valuetext", `x = ${fixed(x)}, energy ${fixed(e)}`);
    });
  };
  return { update };
}

/** The density with a histogram of the particles, and the means of the features under data and model. */
function lawView(centres) {
  const hosts = [h("div"), h("div")], bins = 30;
  const above = chart(hosts[0], { alt: "density of the model, a histogram of the particles, and the data as ticks" });
  const below = chart(hosts[1], { alt: "mean of each bump under the data and under the model" });
  const update = ({ state, now, seen }) => {
    const counts = Array(bins).fill(0), size = (2 * EDGE) / bins;
    for (const x of state.particles) if (Math.abs(x) < EDGE) counts[Math.floor((x + EDGE) / size)] += 1 / (state.particles.length * size);
    const top = Math.max(0.6, ...now.density, ...counts);
    above.layout({ x: { ...xAxis, label: "" }, y: { range: [0, 1.08 * top], label: "density" }, height: 200, left: 60 });
    const { X, Y } = above, bar = (c, i) => (c ? `M${X(i * size - EDGE)} ${Y(0)}V${Y(c)}H${X((i + 1) * size - EDGE)}V${Y(0)}z` : "");
    above.marks.replaceChildren(
      h("path", { d: counts.map(bar).join(""), fill: color(2), "fill-opacity": 0.4 }),
      h("path", { d: pathThrough(shown(GRID).map(X), shown(now.density).map(Y)), ...LAW }),
      h("path", { d: state.points.map((x) => `M${X(x)} ${Y(0) + 6}v-16`).join(""), ...stroke(1, null, 3) }),
    );
    const height = Math.max(0.5, ...seen, ...now.mean);
    below.layout({ x: { ...xAxis, label: "centre $c_j$ of the bump" }, y: { range: [0, 1.08 * height], label: "mean of $\\varphi_j$" }, height: 190, left: 60 });
    const at = (j, v) => `${below.X(centres[j])} ${below.Y(v)}`;
    below.marks.replaceChildren(
      h("path", { d: seen.map((v, j) => `M${at(j, v)}L${at(j, now.mean[j])}`).join(""), ...stroke(3, null, 2.5) }),
      ...seen.map((v, j) => h("circle", { cx: below.X(centres[j]), cy: below.Y(v), r: 5, fill: color(1) })),
      ...now.mean.map((v, j) => h("rect", { x: below.X(centres[j]) - 4.5, y: below.Y(v) - 4.5, width: 9, height: 9, ...stroke("ink") })),
    );
  };
  const swatch = (...marks) => h("g", {}, ...marks);
  const key = legend([
    { label: "data", mark: h("circle", { cx: 15, cy: 7, r: 5.5, fill: color(1) }) },
    { label: "particles", mark: swatch(h("circle", { cx: 9, cy: 7, r: 4, ...DREAM }), h("rect", { x: 18, y: 1, width: 9, height: 12, fill: color(2), "fill-opacity": 0.4 })) },
    { label: "model", mark: swatch(h("path", { d: "M0 7h14", ...LAW }), h("rect", { x: 18, y: 2.5, width: 9, height: 9, ...stroke("ink") })) },
    { label: "after one more step", mark: h("path", { d: "M1 7h28", ...NEXT }) },
  ]);
  return { el: h("div", { class: "pgx-panel" }, ...hosts, key), update };
}

function render({ model: widget, el }) {
  const given = { ...DEFAULTS, ...widget.get("params") }, key = words(given.seed);
  const model = family(given), start = given.theta ?? given.centres.map(() => 0);
  const fresh = () => ({ points: [...given.points], theta: [...start], particles: Array.from({ length: given.particles }, (_, i) => first(i, key)), steps: 0, moves: 0 });
  const state = { ...fresh(), rate: given.rate, rule: given.negatives };
  const { root, dispose } = mount(el, widget, () => draw());
  const clamp = (x) => Number(Math.min(EDGE, Math.max(-EDGE, x)).toFixed(2));
  const host = h("div"), status = spoken();
  const land = landscapeView(host, state, (k, x) => { state.points[k] = clamp(x); later(); });
  const laws = lawView(given.centres);
  const numbers = readings({ likelihood: "log-likelihood per point", logZ: "$\\log Z$", gap: "largest difference of means", data: "mean energy of the data", kept: "of the particles" });

  /** The gradient of −log p per point that the chosen negatives give. */
  const push = (seen, mean) => {
    const negatives = { exact: mean, particles: model.average(state.particles), nothing: null }[state.rule];
    return seen.map((v, j) => v - (negatives ? negatives[j] : 0));
  };
  const sample = () => {
    for (let m = 0; m < MOVES; m++, state.moves++) state.particles = state.particles.map((x, i) => moved(model, state.theta, x, i, state.moves, key));
  };
  const learn = () => {
    const now = model.law(state.theta), direction = push(model.average(state.points), now.mean);
    if (now.low < DEEPEST) return false;
    state.theta = state.theta.map((v, j) => v - state.rate * direction[j]);
    state.steps += 1;
    sample();
    return true;
  };

  function draw() {
    const now = model.law(state.theta), seen = model.average(state.points), direction = push(seen, now.mean);
    const mean = (xs) => xs.reduce((sum, x) => sum + model.energy(state.theta, x), 0) / xs.length;
    const likelihood = -mean(state.points) - now.logZ, difference = seen.map((v, j) => v - now.mean[j]), gap = largest(difference);
    const ahead = GRID.map((x, i) => now.energies[i] - state.rate * dot(direction, model.features(x)));
    land.update({ model, now, ahead });
    laws.update({ state, now, seen });
    status.say(sentence({ steps: state.steps, rule: state.rule, now, likelihood, gap }));
    numbers.set({ likelihood: fixed(likelihood, 3), logZ: fixed(now.logZ, 3), gap: fixed(gap, 3), data: fixed(mean(state.points)), kept: fixed(mean(state.particles)) });
    Object.assign(root.dataset, { steps: state.steps, moves: state.moves, rule: state.rule, rate: state.rate, likelihood, logZ: now.logZ, gap });
    for (const [name, values] of Object.entries({ points: state.points, theta: state.theta, difference, particles: state.particles })) root.dataset[name] = JSON.stringify(values);
  }
  const later = oncePerFrame(draw);
  let learning = true;
  const clock = animation(root, () => { const on = learning ? learn() : (sample(), true); draw(); return on; }, (running) => {
    learnButton.textContent = running && learning ? "Pause" : "Learn";
    sampleButton.textContent = running && !learning ? "Pause" : "Only sample";
    runs = running;
  });
  let runs = false;
  const play = (wanted) => { if (runs && learning === wanted) { clock.stop(); return; } learning = wanted; clock.start(); };
  const stepButton = button("One step", () => { learn(); later(); }, true);
  const learnButton = button("Learn", () => play(true)), sampleButton = button("Only sample", () => play(false));
  const rate = slider({ label: "step $\\eta$", min: 0.1, max: 3, step: 0.1, value: given.rate, show: (v) => fixed(v, 1), change: (v) => { state.rate = v; later(); } });
  const rule = choice("negatives", { exact: "exact", particles: "particles", nothing: "none" }, given.negatives, (name) => { state.rule = name; later(); });
  const reset = button("Reset", () => {
    clock.stop();
    Object.assign(state, fresh(), { rate: given.rate, rule: given.negatives });
    rate.set(given.rate);
    rule.set(given.negatives);
    later();
  });
  const bar = (...parts) => h("div", { class: "pgx-bar" }, ...parts);
  const left = h("div", { class: "pgx-panel" }, host, bar(stepButton, learnButton, sampleButton, reset), bar(rule.el, rate.el));
  root.append(h("style", {}, LAND_CSS), h("div", { class: "pgx-row" }, left, laws.el), status.el, numbers.el);
  draw();
  return () => { clock.dispose(); dispose(); };
}

export default { render };
