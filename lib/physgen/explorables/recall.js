// Recall: a stored picture is damaged, and the dynamics brings it back, or does not. Linked views: the state, its overlap with each
// stored pattern, its energy. Random words: stream 0 moves the network; for noise, cell i draws word 0 of the counter
// (i, 0, n, 2³¹), n = 0 for the noise slider, 1, 2, … for each further shake; the round(noise·N) cells with the smallest words flip.

const DEFAULTS = { seed: 1, noise: 0.2, temperature: 0, couplings: "hebb", target: 0, steps: 0 };
const RECALL_CSS = `
.pgx-grid { display: grid; width: min(100%, 19rem); aspect-ratio: 1; touch-action: none; user-select: none; cursor: crosshair; border: 1px solid var(--x-muted); }
.pgx-grid > div { display: contents; }
.pgx-cell { position: relative; border: 0.5px solid var(--x-grid); background: var(--x-paper); }
.pgx-cell[aria-selected=true] { background: var(--x-ink); }
.pgx-cell.pgx-wrong::after { content: ""; position: absolute; inset: 32%; border-radius: 50%; background: var(--x-2); }
.pgx .pgx-cell:focus-visible { outline-offset: -2px; z-index: 1; }
.pgx-row > .pgx-left { flex: 0 1 19rem; min-width: 0; }
.pgx-memories { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 0.3rem 1rem; list-style: none; padding: 0; margin: 0.3rem 0; }
.pgx-memories li { display: flex; align-items: center; gap: 0.5rem; margin: 0; }
.pgx .pgx-memories button { display: flex; align-items: center; gap: 0.4rem; min-width: 4.4rem; padding: 2px 6px; }
.pgx .pgx-memories button[aria-pressed=true] { border-color: var(--x-1); box-shadow: inset 0 0 0 1px var(--x-1); }
.pgx-memories .pgx-track { background: linear-gradient(var(--x-muted), var(--x-muted)) 50% / 1px 100% no-repeat, var(--x-grid); }
.pgx-memories svg { width: 26px; height: 26px; flex: none; }
`;

/** Python's round(): halves go to the even neighbour. */
const roundHalfEven = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

function cellsToFlip(N, noise, draw, seed) {
  const draws = Array.from({ length: N }, (_, i) => philox(i, 0, draw, 2 ** 31, words(seed))[0]);
  const order = [...draws.keys()].sort((i, j) => draws[i] - draws[j] || i - j);
  return order.slice(0, roundHalfEven(noise * N));
}

const toSpins = (bits) => Int8Array.from(bits, (bit) => (bit === "1" ? 1 : -1));

// ---- what happens

function fresh(params) {
  const state = { ...DEFAULTS, stored: params.patterns.length, ...params };
  state.patterns = params.patterns.map(toSpins);
  state.names = [...params.names];
  state.given = params.names.length;
  state.N = params.side ** 2;
  restart(state);
  advance(state, state.steps);
  return state;
}

/** Begin at the chosen pattern with noise on it, at t = 0. */
function restart(state) {
  const spins = Int8Array.from(state.patterns[state.target]);
  for (const i of cellsToFlip(state.N, state.noise, 0, state.seed)) spins[i] = -spins[i];
  state.shakes = 0;
  wire(state, spins, 0);
}

/** Couplings anew from the stored patterns; the state stays, its energy is another function from here on. */
function wire(state, spins = state.network.s, t = state.network.t) {
  const build = () => new Network(state.patterns.slice(0, state.stored), state.couplings, state.seed);
  state.network = build();
  state.dependent = !state.network.dual;
  if (state.dependent) { state.couplings = "hebb"; state.network = build(); }
  state.network.t = t;
  state.network.load(state.patterns[state.target]);
  state.goal = state.network.energyPerSpin();
  state.network.load(spins);
  state.trace = { stride: Math.max(1, Math.round(state.N / 50)), t: [t], energy: [state.network.energyPerSpin()] };
}

function advance(state, updates) {
  const { network, trace } = state;
  for (let k = 0; k < updates; k++) {
    network.step(state.temperature);
    if (network.t % trace.stride === 0) record(state);
  }
}

/** The trace keeps at most 800 points: beyond that every other one goes. */
function record({ network, trace }) {
  trace.t.push(network.t);
  trace.energy.push(network.energyPerSpin());
  if (trace.t.length <= 800) return;
  for (const name of ["t", "energy"]) trace[name] = trace[name].filter((_, k) => k % 2 === 0);
  trace.stride *= 2;
}

function shake(state, share) {
  for (const i of cellsToFlip(state.N, share, ++state.shakes, state.seed)) state.network.flip(i);
  record(state);
}

function storeDrawing(state) {
  state.patterns.splice(state.stored, 0, Int8Array.from(state.network.s));
  state.names.splice(state.stored, 0, `yours ${state.names.length - state.given + 1}`);
  state.target = state.stored++;
  wire(state);
}

function verdict({ network, names, stored, temperature, dependent }) {
  if (dependent) return "These patterns are linearly dependent: the projector needs independent ones. Store fewer; Hebb’s rule stays.";
  const overlaps = names.slice(0, stored).map((_, mu) => network.overlap(mu));
  const best = overlaps.reduce((a, m, mu) => (Math.abs(m) > Math.abs(overlaps[a]) ? mu : a), 0);
  const near = `${overlaps[best] < 0 ? "the negative of " : ""}${names[best]}`;
  if (temperature > 0 || !network.isFixedPoint()) return `Update ${network.t}: nearest to ${near}, overlap ${fixed(overlaps[best])}.`;
  if (Math.abs(overlaps[best]) === 1) return `Fixed point after ${network.t} updates: ${near}, recalled without an error.`;
  return `Fixed point after ${network.t} updates, and it is no stored pattern: nearest to ${near}, overlap ${fixed(overlaps[best])}.`;
}

// ---- what is seen

/** The state as a grid of cells: click, drag or arrow keys with space flip them. */
function gridView(side, paint) {
  const place = (i) => `row ${Math.floor(i / side) + 1}, column ${(i % side) + 1}`;
  const cell = (_, i) => h("div", { class: "pgx-cell", role: "gridcell", tabindex: i ? -1 : 0, "aria-label": place(i) });
  const cells = Array.from({ length: side * side }, cell);
  const rows = Array.from({ length: side }, (_, r) => h("div", { role: "row" }, ...cells.slice(r * side, (r + 1) * side)));
  const grid = h("div", { class: "pgx-grid", role: "grid", style: `grid-template-columns: repeat(${side}, 1fr)` }, ...rows);
  grid.setAttribute("aria-label", "state of the network; space flips a cell");
  const under = (event) => {
    const { left, top, width, height } = grid.getBoundingClientRect();
    const column = Math.floor(((event.clientX - left) / width) * side), row = Math.floor(((event.clientY - top) / height) * side);
    return column >= 0 && column < side && row >= 0 && row < side ? row * side + column : -1;
  };
  let shown = new Int8Array(side * side);
  let ink = 0; // the value that this stroke paints
  let focus = 0;
  const focusOn = (i) => { cells[focus].tabIndex = -1; focus = i; cells[i].tabIndex = 0; cells[i].focus({ preventScroll: true }); };
  grid.addEventListener("pointerdown", (event) => {
    const i = under(event);
    if (i < 0 || event.button) return;
    event.preventDefault();
    grid.setPointerCapture(event.pointerId);
    ink = -shown[i];
    focusOn(i);
    paint(i, ink);
  });
  grid.addEventListener("pointermove", (event) => { const i = under(event); if (ink && i >= 0) paint(i, ink); });
  for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, () => { ink = 0; });
  grid.addEventListener("keydown", (event) => {
    const row = Math.floor(focus / side), column = focus % side;
    const last = side - 1;
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -column], End: [0, last - column] };
    const within = (k) => Math.min(Math.max(k, 0), last);
    const [down, right] = moves[event.key] ?? [];
    if (moves[event.key]) focusOn(within(row + down) * side + within(column + right));
    else if (event.key === " " || event.key === "Enter") paint(focus, -shown[focus]);
    else return;
    event.preventDefault();
  });
  const update = (spins, target) => cells.forEach((cell, i) => {
    if (spins[i] !== shown[i]) cell.setAttribute("aria-selected", spins[i] > 0);
    cell.classList.toggle("pgx-wrong", spins[i] !== target[i]);
    shown[i] = spins[i];
  });
  return { el: grid, update };
}

function thumbnail(pattern, side) {
  const d = Array.from(pattern, (spin, i) => (spin > 0 ? `M${i % side} ${Math.floor(i / side)}h1v1h-1z` : "")).join("");
  const paper = h("rect", { width: side, height: side, fill: color("grid") });
  return h("svg", { viewBox: `0 0 ${side} ${side}`, "aria-hidden": "true" }, paper, h("path", { d, fill: color("ink") }));
}

/** One row per stored pattern: a button that starts from it, its overlap as a bar and as a number. */
function memoriesView(pick) {
  const list = h("ul", { class: "pgx-memories" });
  let rows = [];
  const rebuild = ({ patterns, names, stored, side }) => {
    rows = patterns.slice(0, stored).map((pattern, mu) => ({
      start: h("button", { type: "button", "aria-label": `Start from ${names[mu]}`, onclick: () => pick(mu) }, thumbnail(pattern, side), names[mu]),
      bar: h("i"),
      number: h("span", { class: "pgx-number" }),
    }));
    const track = (bar) => h("span", { class: "pgx-track", "aria-hidden": "true" }, bar);
    list.replaceChildren(...rows.map(({ start, bar, number }) => h("li", {}, start, track(bar), number)));
  };
  const update = ({ network, target }) => rows.forEach(({ start, bar, number }, mu) => {
    const m = network.overlap(mu);
    start.setAttribute("aria-pressed", mu === target);
    bar.style.cssText = `left: ${50 + 50 * Math.min(m, 0)}%; width: ${50 * Math.abs(m)}%; background: var(--x-${m < 0 ? 2 : 1})`;
    number.textContent = fixed(m);
  });
  return { el: h("div", {}, h("div", {}, "Overlap with each stored pattern:"), list), rebuild, update };
}

function energyView(host) {
  const picture = chart(host, { alt: "energy per spin against the number of updates" });
  return ({ network, trace, N, goal, names, target }) => {
    const t = [...trace.t, network.t], energy = [...trace.energy, network.energyPerSpin()];
    const low = Math.min(goal, ...energy), high = Math.max(goal + 0.3, ...energy);
    const first = trace.t[0];
    picture.layout({
      x: { range: [first, Math.max(first + 2 * N, network.t)], label: "updates $t$" },
      y: { range: [low - 0.08 * (high - low), high + 0.05 * (high - low)], label: "energy $H/N$" },
      height: 220,
    });
    picture.marks.replaceChildren(
      h("path", { d: pathThrough(t.map(picture.X), energy.map(picture.Y)), ...stroke(1) }),
      h("path", { d: `M${picture.box.left} ${picture.Y(goal)}h${picture.box.width}`, ...stroke("muted", "5 4", 1.5) }),
      h("text", { x: picture.box.left + picture.box.width - 4, y: picture.Y(goal) - 5, "text-anchor": "end" }, `energy of ${names[target]}`),
      h("circle", { cx: picture.X(network.t), cy: picture.Y(energy.at(-1)), r: 4.5, fill: color(1) }),
    );
  };
}

function render({ model, el }) {
  const params = model.get("params");
  let state = fresh(params);
  const { root, dispose } = mount(el, model, () => draw());
  const later = oncePerFrame(() => draw());
  const paint = (i, value) => { if (state.network.s[i] !== value) { state.network.flip(i); record(state); later(); } };
  const grid = gridView(params.side, paint);
  const memories = memoriesView((mu) => { state.target = mu; restart(state); later(); });
  const energyHost = h("div");
  const hint = h("p", { class: "pgx-muted" });
  const status = h("p", { class: "pgx-status", role: "status" });
  const drawEnergy = energyView(energyHost);

  function draw() {
    const { network } = state;
    grid.update(network.s, state.patterns[state.target]);
    memories.update(state);
    hint.textContent = `Click or drag to draw. Dots: cells that differ from ${state.names[state.target]}.`;
    drawEnergy(state);
    Object.assign(root.dataset, {
      step: network.t,
      energy: network.energyPerSpin(),
      overlaps: JSON.stringify(network.M.map((_, mu) => network.overlap(mu))),
      state: Array.from(network.s, (spin) => (spin > 0 ? "1" : "0")).join(""),
      couplings: state.couplings,
      stored: state.stored,
    });
  }
  const speak = () => { status.textContent = verdict(state); };
  const atRest = () => state.temperature === 0 && state.network.isFixedPoint();
  const run = animation(root, () => {
    advance(state, reducedMotion() ? state.N : Math.ceil(state.N / 36));
    draw();
    return !atRest();
  }, (running) => { runButton.textContent = running ? "Pause" : "Run"; if (!running) speak(); });
  const runButton = button("Run", run.toggle, true);

  const change = (act) => (value) => { act(value); later(); speak(); };
  const rewired = () => { wire(state); memories.rebuild(state); controls.show(state); };
  const controls = recallControls(state, {
    stored: change((value) => { state.stored = value; state.target = Math.min(state.target, value - 1); rewired(); }),
    noise: change((value) => { run.stop(); state.noise = value; restart(state); }),
    temperature: change((value) => { state.temperature = value; }),
    couplings: change((value) => { state.couplings = value; rewired(); }),
  });
  const reset = () => { run.stop(); state = fresh(params); memories.rebuild(state); controls.show(state); };
  const buttons = [
    runButton,
    button("Step", change(() => { run.stop(); advance(state, 1); })),
    button("Flip 20 %", change(() => shake(state, 0.2))),
    button("Blank", change(() => { state.network.load(new Int8Array(state.N).fill(-1)); record(state); })),
    button("Store drawing", change(() => { storeDrawing(state); memories.rebuild(state); controls.show(state); })),
    button("Reset", change(reset)),
  ];
  root.append(
    h("style", {}, RECALL_CSS),
    h("div", { class: "pgx-row" }, h("div", { class: "pgx-left" }, grid.el, hint), h("div", { class: "pgx-panel" }, energyHost, memories.el)),
    status, h("div", { class: "pgx-bar" }, ...buttons), h("div", { class: "pgx-bar" }, ...controls.els),
  );
  memories.rebuild(state);
  draw();
  speak();
  return () => { run.dispose(); dispose(); };
}

function recallControls(state, change) {
  const percent = (x) => `${Math.round(100 * x)} %`;
  const made = (label, name, limits, show) => slider({ label, ...limits, value: state[name], show, change: change[name] });
  const stored = made("stored $K$", "stored", { min: 1, max: state.patterns.length, step: 1 }, String);
  const noise = made("noise", "noise", { min: 0, max: 0.5, step: 0.01 }, percent);
  const heat = made("temperature $T$", "temperature", { min: 0, max: 1.5, step: 0.01 }, (T) => fixed(T));
  const rule = choice("couplings", { hebb: "Hebb", projector: "projector" }, state.couplings, change.couplings);
  const show = (now) => {
    stored.input.max = now.patterns.length;
    for (const [control, value] of [[stored, now.stored], [noise, now.noise], [heat, now.temperature], [rule, now.couplings]]) control.set(value);
  };
  return { els: [stored.el, noise.el, heat.el, rule.el], show };
}

export default { render };
