// Two classes ±m of variance σ²: when does the reverse diffusion choose? Only y = m̂·x counts. With s = e^{−t}, Γ = σ²s² + 1 − s²:
//   P(+ | y) = 1/(1 + e^{−2|m|sy/Γ}),  V(y) = (2/Γ − 1) y²/2 − 2 log cosh(|m|sy/Γ),  φ = ½(1 + E tanh(κ² + κz)),  κ = |m|s/√Γ.
// Trajectories go from p_{t_max} down the times t_k = t_max (1 − k/100) by the exact law of a step, t to t′ (no error of Euler's):
//   c = ± with P(c | y),  y′ = c|m|s′ + (aΓ′/Γ)(y − c|m|s) + √(Γ′(1 − a²)/Γ) z,  a = e^{−(t − t′)};  the class at the end is the last c.
// Random words: trajectory i in step k takes those of the counter (k, 0, r, 1 + i): c = + if word 2 < 2³² P, z the first normal number of
// words 0 and 1. Trunks have r = 0 and their start the step k = 100; clones r = 1, 2, …: those that are drawn all leave trunk 0, and two
// leave each of the trunks i < 240, to be counted. "New noise" raises the seed by one.

const DEFAULTS = { norm: 4, variance: 0.25, t_max: 3, clones: 60, seed: 1 };
const STEPS = 100;
const TRUNKS = 240;

// ---- what is computed

function exactly({ norm, variance }, t) {
  const s = Math.exp(-t), gamma = variance * s * s - Math.expm1(-2 * t);
  const signal = norm * s, kappa = signal / Math.sqrt(gamma);
  return { s, gamma, signal, kappa, plus: (y) => 1 / (1 + Math.exp((-2 * signal * y) / gamma)) };
}

const logCosh = (x) => Math.abs(x) + Math.log1p(Math.exp(-2 * Math.abs(x))) - Math.LN2;
const potential = ({ gamma, signal }) => (y) => ((2 / gamma - 1) * y * y) / 2 - 2 * logCosh((signal * y) / gamma);

/** φ as a function of κ, as 1 − ½ e^{−κ²/2} E sech(κz): a trapezoid rule, exact to the rounding. */
function cloning(kappa) {
  const reach = Math.min(9, 40 / kappa), step = reach / 400;
  let sum = 0;
  for (let k = -400; k <= 400; k++) sum += Math.exp(-((k * step) ** 2 + kappa * kappa) / 2 - logCosh(kappa * k * step));
  return 1 - (0.5 * step * sum) / Math.sqrt(2 * Math.PI);
}

/** The random numbers of one trajectory, drawn when they are first needed: [z, word of the class] of each step. */
function stream(key, replica, i) {
  const drawn = [];
  return (k) => {
    if (!drawn[k]) { const [w0, w1, w2] = philox(k, 0, replica, 1 + i, key); drawn[k] = [normalPair(w0, w1)[0], w2]; }
    return drawn[k];
  };
}

function world(params, seed) {
  const key = words(seed);
  const times = Array.from({ length: STEPS + 1 }, (_, k) => params.t_max * (1 - k / STEPS));
  const laws = times.map((t) => exactly(params, t));
  /** On from y at step k to the end: `path` holds y of the steps k, …, 100, and `label` the class. */
  const follow = (y, k, random) => {
    const path = [y];
    let label = 0;
    for (; k < STEPS; k++) {
      const [z, word] = random(k), now = laws[k], next = laws[k + 1];
      const a = now.s / next.s;
      label = word < WORD * now.plus(y) ? 1 : -1;
      const width = Math.sqrt((-next.gamma * Math.expm1(-2 * (times[k] - times[k + 1]))) / now.gamma);
      y = label * next.signal + ((a * next.gamma) / now.gamma) * (y - label * now.signal) + width * z;
      path.push(y);
    }
    return { path, label };
  };
  const trunks = Array.from({ length: TRUNKS }, (_, i) => {
    const random = stream(key, 0, i), [z, word] = random(STEPS), { signal, gamma } = laws[0];
    return follow((word < WORD / 2 ? signal : -signal) + Math.sqrt(gamma) * z, 0, random).path;
  });
  const streams = (count, replica) => Array.from({ length: count }, (_, i) => stream(key, ...replica(i)));
  const drawn = streams(params.clones, (c) => [1 + c, 0]);
  const pairs = [1, 2].map((r) => streams(TRUNKS, (i) => [r, i]));
  const part = (k) => {
    const [first, second] = pairs.map((own) => trunks.map((path, i) => follow(path[k], k, own[i]).label));
    const agree = first.filter((label, i) => label === second[i]).length / TRUNKS;
    return { clones: drawn.map((random) => follow(trunks[0][k], k, random)), agree };
  };
  return { times, laws, trunk: trunks[0], part };
}

function sentence(t, tS, phi, plus, clones) {
  const when = fixed(t, 1) === fixed(tS, 1) ? "near" : t > tS ? "before" : "after";
  const ends = plus === 0 || plus === clones ? `all ${clones} clones end in one class` : `${plus} of ${clones} clones end in class +, ${clones - plus} in class −`;
  return `Parting at t = ${fixed(t)}, ${when} the speciation time ${fixed(tS)}: ${ends}. Two clones of any trunk agree with probability ${fixed(phi, 3)}.`;
}

// ---- what is seen

const PLUS = stroke(1), MINUS = stroke(2, "6 3"), MARK = stroke("muted", "5 4", 1.5);

/** V(y) at the time t, with the particle that is about to be cloned. */
function potentialView({ norm, variance }) {
  const host = h("div");
  const picture = chart(host, { alt: "potential against y, with the particle in it" });
  const reach = 1.5 * norm + 3 * Math.sqrt(Math.max(1, variance));
  const grid = Array.from({ length: 241 }, (_, i) => reach * (i / 120 - 1));
  const draw = (law, y) => {
    const V = potential(law), values = grid.map(V), low = Math.min(...values);
    const span = Math.max(6, -2.2 * low);
    picture.layout({ x: { range: [-reach, reach], label: "$y=m\\cdot x/|m|$" }, y: { range: [low - 0.12 * span, low + span], label: "potential $V$" }, height: 230 });
    picture.marks.replaceChildren(
      h("path", { d: pathThrough(grid.map(picture.X), values.map(picture.Y)), ...stroke("ink") }),
      h("circle", { cx: picture.X(y), cy: picture.Y(V(y)) - 7, r: 7, fill: color(3), stroke: color("paper"), "stroke-width": 1.5 }),
    );
  };
  return { host, draw };
}

/** The fork: clones in y, and below it φ against the same time. Both are dragged. */
function forkView(params, tS, pick) {
  const hosts = [h("div"), h("div")];
  const fork = chart(hosts[0], { alt: "y of the clones against time" }), curve = chart(hosts[1], { alt: "cloning probability against time, exact and counted" });
  const paint = underlay(hosts[0], `${params.clones} clones that part at the chosen time`);
  const x = { range: [params.t_max, 0], label: "time $t$, from noise to data" };
  const reach = params.norm + 3.5 * Math.sqrt(Math.max(1, params.variance));
  const grid = Array.from({ length: 121 }, (_, i) => Math.max(1e-9, (params.t_max * i) / 120));
  const phi = grid.map((t) => cloning(exactly(params, t).kappa));
  for (const picture of [fork, curve]) {
    const at = ({ clientX }) => (clientX - picture.svg.getBoundingClientRect().left - picture.box.left) / picture.box.width;
    drag(picture.svg, (event) => pick(at(event)));
    picture.svg.classList.add("pgx-drag");
  }
  const layout = () => {
    fork.layout({ x, y: { range: [-reach, reach], label: "$y$" }, height: 280, left: 60, grid: false });
    curve.layout({ x, y: { range: [0.4, 1.02], label: "$\\varphi(t)$" }, height: 200, left: 60 });
  };
  const lines = ({ X, box }, t) => [
    h("path", { d: `M${X(tS)} ${box.top}v${box.height}`, ...MARK }),
    h("path", { d: `M${X(t)} ${box.top}v${box.height}`, ...stroke(3, null, 1.5) }),
  ];
  const draw = ({ times, trunk }, k, { clones, agree }, exact) => {
    const { X, Y, box } = fork, t = times[k];
    paint(fork, (pen, ink) => {
      const line = (path, from) => { pen.beginPath(); path.forEach((y, j) => pen[j ? "lineTo" : "moveTo"](X(times[from + j]), Y(y))); pen.stroke(); };
      for (const { path, label } of clones) {
        Object.assign(pen, { strokeStyle: ink(label > 0 ? 1 : 2), lineWidth: 1.2, globalAlpha: 0.55 });
        pen.setLineDash(label > 0 ? [] : [6, 3]);
        line(path, k);
      }
      pen.setLineDash([]);
      Object.assign(pen, { strokeStyle: ink("ink"), lineWidth: 2, globalAlpha: 1 });
      line(trunk.slice(0, k + 1), 0);
    });
    const name = tS > 0.85 * params.t_max ? { x: X(tS) + 5 } : { x: X(tS) - 5, "text-anchor": "end" };
    fork.marks.replaceChildren(...lines(fork, t), h("circle", { cx: X(t), cy: Y(trunk[k]), r: 6, fill: color(3) }));
    fork.top.replaceChildren(h("text", { ...name, y: box.top + 14 }, ...texSvg("$t_S$")));
    const error = Math.sqrt((exact * (1 - exact)) / TRUNKS);
    const [cx, cy] = [curve.X(t), curve.Y(agree)];
    curve.marks.replaceChildren(
      ...lines(curve, t),
      h("path", { d: pathThrough(grid.map(curve.X), phi.map(curve.Y)), ...stroke("ink") }),
      h("path", { d: `M${cx} ${curve.Y(agree - error)}V${curve.Y(agree + error)}`, ...stroke(3) }),
      h("circle", { cx, cy, r: 5, fill: color(3), stroke: color("paper"), "stroke-width": 1 }),
    );
  };
  return { hosts, layout, draw };
}

function render({ model, el }) {
  const given = { ...DEFAULTS, ...model.get("params") };
  const tS = 0.5 * Math.log(given.norm ** 2 + given.variance);
  const home = Math.min(STEPS - 1, Math.max(0, Math.round(STEPS * (1 - (given.t ?? tS) / given.t_max))));
  let seed = given.seed, now = world(given, seed), k = home;
  const { root, dispose } = mount(el, model, () => { fork.layout(); draw(); });
  const well = potentialView(given), fork = forkView(given, tS, (share) => move(Math.round(STEPS * share)));
  const status = spoken();
  const numbers = readings({ t: "$t$", kappa: "$\\kappa$", phi: "$\\varphi$ exact", agree: "counted" });

  function draw() {
    const t = now.times[k], law = now.laws[k], parted = now.part(k), phi = cloning(law.kappa);
    const plus = parted.clones.filter((clone) => clone.label > 0).length;
    well.draw(law, now.trunk[k]);
    fork.draw(now, k, parted, phi);
    status.say(sentence(t, tS, phi, plus, given.clones));
    numbers.set({ t: fixed(t), kappa: fixed(law.kappa, 3), phi: fixed(phi, 4), agree: `${fixed(parted.agree, 3)} ± ${fixed(Math.sqrt((phi * (1 - phi)) / TRUNKS), 3)}` });
    Object.assign(root.dataset, { t, kappa: law.kappa, phi, measured: parted.agree, tS, y: now.trunk[k], plus, seed });
  }
  const later = oncePerFrame(draw);
  function move(next) { k = Math.min(STEPS - 1, Math.max(0, next)); time.set(k); later(); }
  const time = slider({ label: "they part at $t$", min: 0, max: STEPS - 1, step: 1, value: k, show: (value) => fixed(now.times[value]), change: move });
  const renew = (next) => { seed = next; now = world(given, seed); later(); };
  const fresh = button("New noise", () => renew(seed + 1), true);
  const reset = button("Reset", () => { move(home); renew(given.seed); });
  const key = legend([
    { label: "ends in class +", mark: h("path", { d: "M1 7h28", ...PLUS }) },
    { label: "ends in class −", mark: h("path", { d: "M1 7h28", ...MINUS }) },
    { label: "trunk, and what is exact", mark: h("path", { d: "M1 7h28", ...stroke("ink") }) },
    { label: `where they part, and the count over ${TRUNKS} pairs`, mark: h("circle", { cx: 15, cy: 7, r: 5, fill: color(3) }) },
  ]);
  root.append(
    h("style", {}, ".pgx-drag { touch-action: pan-y; cursor: ew-resize; }"),
    h("div", { class: "pgx-row" }, h("div", { class: "pgx-panel" }, well.host, h("div", { class: "pgx-bar" }, time.el, fresh, reset), numbers.el, key), h("div", { class: "pgx-panel" }, ...fork.hosts)),
    status.el,
  );
  fork.layout();
  draw();
  return () => { dispose(); };
}

export default { render };
