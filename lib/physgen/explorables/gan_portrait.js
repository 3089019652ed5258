// Two players (θ, w): data N(0, v), generator √v z + θ, discriminator σ(wx) with the penalty (γ/2) w², or the linear critic wx. They move along
//   θ̇ = w E σ(w(x + θ)),   ẇ = −E x σ(wx) − E (x + θ) σ(w(x + θ)) − γw,   or   (w, −θ − γw),
// averages by the trapezoidal rule: physgen.energies.adversarial.vector_field, .trajectory, .update_matrix. Near (0, 0) the Jacobian is
// ((0, ω), (−ω, −c)) with ω = ½, c = v/2 + γ, or ω = 1, c = γ; the factor per step is the largest |λ| of the update.

const DEFAULTS = { start: [1.2, 0], game: "dirac", variance: 1, penalty: 0, h: 0.4, steps: 120, rule: "simultaneous" };
const REACH = 2.6, AWAY = 30, FLOOR = -4, CEILING = 1;
const GAMES = { dirac: "one point, $v = 0$", gaussian: "a Gaussian", linear: "linear critic" };
const RULES = { simultaneous: 1, alternating: 3, extragradient: 2, optimistic: 6 }; // name, colour

// ---- what is computed

const sigmoid = (u) => 1 / (1 + Math.exp(-u));
const nodes = new Map();

/** Nodes and weights for averages over N(0, 1); a power of two times finer where |w|√v is large. */
function normalNodes(reach) {
  const spacing = 0.4 / 2 ** Math.max(0, Math.ceil(Math.log2(0.8 * reach)));
  if (!nodes.has(spacing)) {
    const half = Math.ceil(9 / spacing), z = Array.from({ length: 2 * half + 1 }, (_, i) => (i - half) * spacing);
    const raw = z.map((u) => Math.exp((-u * u) / 2)), sum = raw.reduce((a, b) => a + b);
    nodes.set(spacing, { z, weight: raw.map((u) => u / sum) });
  }
  return nodes.get(spacing);
}

/** (θ̇, ẇ). */
function velocity([theta, w], { game, variance, penalty }) {
  if (game === "linear") return [w, -theta - penalty * w];
  const width = game === "dirac" ? 0 : Math.sqrt(variance);
  if (!width) { const mean = sigmoid(w * theta); return [w * mean, -theta * mean - penalty * w]; }
  const { z, weight } = normalNodes(Math.abs(w) * width);
  let mean = 0, push = 0;
  for (let i = 0; i < z.length; i++) {
    const x = width * z[i], real = sigmoid(w * x), fooled = sigmoid(w * (x + theta));
    mean += weight[i] * fooled;
    push -= weight[i] * x * (real + fooled);
  }
  return [w * mean, push - theta * mean - penalty * w];
}

const along = ([a, b], h, [u, v]) => [a + h * u, b + h * v];

/** The steps from `start`; they end early where they have run away. */
function trajectory(start, law, h, steps, rule) {
  const path = [start];
  let z = start, before = velocity(start, law);
  for (let k = 0; k < steps && Math.hypot(...z) < AWAY; k++) {
    const push = velocity(z, law);
    if (rule === "alternating") {
      const w = z[1] + h * push[1];
      z = [z[0] + h * velocity([z[0], w], law)[0], w];
    } else if (rule === "extragradient") z = along(z, h, velocity(along(z, h, push), law));
    else if (rule === "optimistic") z = along(z, h, push.map((v, a) => 2 * v - before[a]));
    else z = along(z, h, push);
    before = push;
    path.push(z);
  }
  return path;
}

/** The flow to the time `end`, by steps of Runge and Kutta of at most 0.1. */
function flow(start, law, end) {
  const n = Math.ceil(end / 0.1), h = end / n, path = [start];
  for (let k = 0, z = start; k < n; k++) {
    const a = velocity(z, law), b = velocity(along(z, h / 2, a), law), c = velocity(along(z, h / 2, b), law), d = velocity(along(z, h, c), law);
    path.push((z = along(z, h / 6, [0, 1].map((i) => a[i] + 2 * b[i] + 2 * c[i] + d[i]))));
  }
  return path;
}

// Complex numbers are pairs.
const times = ([a, b], [c, d]) => [a * c - b * d, a * d + b * c];
const root2 = ([a, b]) => { const r = Math.hypot(a, b), s = Math.sqrt((r + a) / 2); return [s, (b < 0 ? -1 : 1) * Math.sqrt(Math.max(0, (r - a) / 2))]; };
/** Both λ of λ² − pλ + q = 0. */
function roots(p, q) {
  const [a, b] = times(p, p), s = root2([a - 4 * q[0], b - 4 * q[1]]);
  return [1, -1].map((sign) => [(p[0] + sign * s[0]) / 2, (p[1] + sign * s[1]) / 2]);
}

/** The largest |λ| of one step near (0, 0). */
function modulus({ game, variance, penalty }, h, rule) {
  const omega = game === "linear" ? 1 : 0.5, c = penalty + (game === "gaussian" ? variance / 2 : 0);
  const size = (all) => Math.max(...all.map((v) => Math.hypot(...v)));
  if (rule === "alternating") return size(roots([2 - h * c - (h * omega) ** 2, 0], [1 - h * c, 0]));
  const steps = roots([-c, 0], [omega * omega, 0]).map((mu) => [h * mu[0], h * mu[1]]);
  if (rule === "optimistic") return size(steps.flatMap((mu) => roots([1 + 2 * mu[0], 2 * mu[1]], mu)));
  return size(steps.map((mu) => { const square = rule === "extragradient" ? times(mu, mu) : [0, 0]; return [1 + mu[0] + square[0], mu[1] + square[1]]; }));
}

const far = (value) => (value < 0.001 ? value.toExponential(1).replace("-", "−") : fixed(value, 3));

function sentence({ rule, factor, k, distance, from }) {
  const fate = factor > 1 + 1e-9 ? "steps lead away from the equilibrium" : factor < 1 - 1e-9 ? "steps lead to the equilibrium" : "steps neither approach nor leave it";
  const name = rule[0].toUpperCase() + rule.slice(1);
  return `${name}: a factor ${fixed(factor, 4)} per step near the equilibrium, so ${fate}. After ${k} steps the distance is ${far(distance)}; it was ${far(from)}.`;
}

// ---- what is seen

const FLOW = stroke("ink", null, 1.2), FACTOR = stroke("ink", "1 4", 1.8);

/** The plane of the players: arrows, the flow, the steps, and the start, which is dragged or moved by the arrow keys. */
function planeView(host, state, move) {
  const picture = chart(host, { alt: "plane of the generator's θ and the discriminator's w", role: "group" });
  const paint = underlay(host, "arrows of the vector field, turning about the equilibrium");
  const { handle } = planeHandle(picture, { name: "start", reach: REACH, at: () => state.start, move });
  const centre = h("path", { ...stroke("ink") }), now = h("circle", { r: 6, stroke: color("paper"), "stroke-width": 1.5 });
  picture.top.append(centre, now, handle);
  const layout = () => {
    const spec = { x: { range: [-REACH, REACH], label: "generator $\\theta$" }, y: { range: [-REACH, REACH], label: "discriminator $w$" }, grid: false };
    picture.layout(spec);
    // Again, now that the width is known: the plane is a square.
    picture.layout({ ...spec, height: picture.box.width + 54 });
  };
  const arrows = (pen, law) => {
    const { X, Y } = picture, n = 15, gap = (2 * REACH) / n;
    for (let i = 0; i < n * n; i++) {
      const x = gap * ((i % n) + 0.5) - REACH, y = gap * (Math.floor(i / n) + 0.5) - REACH, [u, v] = velocity([x, y], law), speed = Math.hypot(u, v) || 1;
      const length = (0.85 * gap * Math.sqrt(speed / (speed + 0.5))) / speed, tip = [X(x + length * u), Y(y + length * v)], back = [X(x) - tip[0], Y(y) - tip[1]];
      pen.moveTo(X(x), Y(y));
      pen.lineTo(...tip);
      for (const turn of [0.5, -0.5]) { pen.moveTo(...tip); pen.lineTo(tip[0] + 0.35 * (back[0] - turn * back[1]), tip[1] + 0.35 * (back[1] + turn * back[0])); }
    }
  };
  const update = ({ law, path, smooth, at }) => {
    paint(picture, (pen, ink) => {
      Object.assign(pen, { strokeStyle: ink("muted"), lineWidth: 1, globalAlpha: 0.7 });
      pen.beginPath();
      arrows(pen, law);
      pen.stroke();
    });
    const { X, Y } = picture, hue = RULES[state.rule], seen = path.slice(0, state.k + 1);
    const line = (points) => pathThrough(points.map((p) => X(p[0])), points.map((p) => Y(p[1])));
    picture.marks.replaceChildren(
      h("path", { d: line(smooth), ...FLOW }),
      h("path", { d: line(seen), ...stroke(hue, null, 1.2) }),
      ...seen.map((p) => h("circle", { cx: X(p[0]).toFixed(1), cy: Y(p[1]).toFixed(1), r: 2.2, fill: color(hue) })),
    );
    const inside = at.every((v) => Math.abs(v) <= REACH);
    attributes(now, { cx: X(at[0]), cy: Y(at[1]), fill: color(hue), visibility: inside ? "visible" : "hidden" });
    centre.setAttribute("d", `M${X(0) - 7} ${Y(0)}h14M${X(0)} ${Y(0) - 7}v14`);
    handle.setAttribute("transform", `translate(${X(state.start[0])} ${Y(state.start[1])})`);
    handle.setAttribute("aria-valuenow", state.start[0]);
    handle.setAttribute("aria-valuetext", `θ = ${fixed(state.start[0])}, w = ${fixed(state.start[1])}`);
  };
  return { layout, update };
}

/** The distance to the equilibrium, step by step, for all rules. */
function distanceView() {
  const host = h("div");
  const picture = chart(host, { alt: "logarithm of the distance to the equilibrium against the number of steps, for each rule" });
  const update = ({ state, paths, path, factor }) => {
    picture.layout({ x: { range: [0, state.steps], label: "steps $k$" }, y: { range: [FLOOR, CEILING], label: "$\\log_{10}$ distance" }, height: 300, left: 60 });
    const { X, Y, box } = picture, log = (p) => Math.log10(Math.max(1e-99, Math.hypot(...p)));
    const from = log(path[0]), law = [0, state.steps].map((k) => Y(from + k * Math.log10(factor)));
    const curve = ([rule, points]) => h("path", { d: pathThrough(points.map((_, k) => X(k)), points.map((p) => Y(log(p)))), ...stroke(RULES[rule], DASHES[Object.keys(RULES).indexOf(rule)], rule === state.rule ? 3 : 1.4) });
    picture.marks.replaceChildren(
      h("path", { d: `M${X(state.k)} ${box.top}v${box.height}`, ...stroke("muted", null, 1) }),
      h("path", { d: pathThrough([0, state.steps].map(X), law), ...FACTOR }),
      ...Object.entries(paths).map(curve),
      h("circle", { cx: X(Math.min(state.k, path.length - 1)), cy: Y(log(path[Math.min(state.k, path.length - 1)])), r: 5, fill: color(RULES[state.rule]), stroke: color("paper") }),
    );
  };
  const swatch = (rule, i) => ({ label: rule, mark: h("path", { d: "M1 7h28", ...stroke(RULES[rule], DASHES[i]) }) });
  const key = legend([
    ...Object.keys(RULES).map(swatch),
    { label: "its factor near (0, 0)", mark: h("path", { d: "M1 7h28", ...FACTOR }) },
  ]);
  return { parts: [host, key], update };
}

function render({ model, el }) {
  const given = { ...DEFAULTS, ...model.get("params") };
  const fresh = () => ({ start: given.start, game: given.game, penalty: given.penalty, h: given.h, rule: given.rule, k: given.steps, steps: given.steps });
  const state = fresh();
  const { root, dispose } = mount(el, model, () => { plane.layout(); draw(); });
  const host = h("div"), status = spoken(), distances = distanceView();
  const numbers = readings({ factor: "factor per step", distance: "distance", theta: "$\\theta$", w: "$w$", friction: "friction $c$" });
  const plane = planeView(host, state, (to) => { state.start = to.map((v) => Number(Math.min(REACH, Math.max(-REACH, v)).toFixed(2))); later(); });

  function draw() {
    const law = { game: state.game, variance: given.variance, penalty: state.penalty };
    const paths = Object.fromEntries(Object.keys(RULES).map((rule) => [rule, trajectory(state.start, law, state.h, state.steps, rule)]));
    const path = paths[state.rule], at = path[Math.min(state.k, path.length - 1)], smooth = flow(state.start, law, Math.max(0.1, state.h * state.k));
    const factors = Object.keys(RULES).map((rule) => modulus(law, state.h, rule)), factor = modulus(law, state.h, state.rule), distance = Math.hypot(...at);
    const friction = state.penalty + (state.game === "gaussian" ? given.variance / 2 : 0);
    plane.update({ law, path, smooth, at });
    distances.update({ state, paths, path, factor });
    status.say(sentence({ rule: state.rule, factor, k: Math.min(state.k, path.length - 1), distance, from: Math.hypot(...state.start) }));
    numbers.set({ factor: fixed(factor, 4), distance: far(distance), theta: fixed(at[0], 3), w: fixed(at[1], 3), friction: fixed(friction) });
    Object.assign(root.dataset, { game: state.game, rule: state.rule, h: state.h, penalty: state.penalty, k: state.k, length: path.length - 1, factor, distance });
    for (const [name, values] of Object.entries({ start: state.start, state: at, factors, velocity: velocity(state.start, law), flow: smooth.at(-1) })) root.dataset[name] = JSON.stringify(values);
  }
  const later = oncePerFrame(draw);
  const change = (name) => (value) => { state[name] = value; later(); };
  const step = slider({ label: "step $h$", min: 0.05, max: 2, step: 0.05, value: given.h, show: (v) => fixed(v), change: change("h") });
  const penalty = slider({ label: "penalty $\\gamma$", min: 0, max: 2, step: 0.05, value: given.penalty, show: (v) => fixed(v), change: change("penalty") });
  const seen = slider({ label: "steps $k$", min: 0, max: given.steps, step: 1, value: given.steps, show: String, change: change("k") });
  const rule = choice("steps", Object.fromEntries(Object.keys(RULES).map((name) => [name, name])), given.rule, change("rule"));
  const game = choice("data", Object.fromEntries(Object.entries(GAMES).map(([name, text]) => [name, h("span", {}, ...texHtml(text))])), given.game, change("game"));
  const clock = animation(root, () => {
    // Under reduced motion the clock ticks once a second: then a tenth of the way each time.
    state.k = Math.min(state.steps, state.k + (reducedMotion() ? Math.ceil(state.steps / 10) : 1));
    seen.set(state.k);
    draw();
    return state.k < state.steps;
  }, (running) => { play.textContent = running ? "Pause" : "Play"; });
  const play = button("Play", () => { if (state.k >= state.steps) { state.k = 0; seen.set(0); } clock.toggle(); }, true);
  const reset = button("Reset", () => {
    clock.stop();
    Object.assign(state, fresh());
    for (const [control, value] of [[step, state.h], [penalty, state.penalty], [seen, state.k], [rule, state.rule], [game, state.game]]) control.set(value);
    later();
  });
  const marks = legend([
    { label: "start", mark: h("path", { d: "M15 0L22 7L15 14L8 7z", fill: color(4) }) },
    { label: "flow, $h \\to 0$", mark: h("path", { d: "M1 7h28", ...FLOW }) },
  ]);
  const bar = (...parts) => h("div", { class: "pgx-bar" }, ...parts);
  root.append(
    bar(game.el), bar(rule.el),
    h("div", { class: "pgx-row" }, h("div", { class: "pgx-panel" }, host, marks, bar(step.el, penalty.el)), h("div", { class: "pgx-panel" }, ...distances.parts, bar(seen.el, play, reset))),
    status.el, numbers.el,
  );
  plane.layout();
  draw();
  return () => { clock.dispose(); dispose(); };
}

export default { render };
