// A lattice that lives: size² sites on a torus, seen at three scales. Two models:
//   Ising: E = −Σ s_i s_j, checkerboard heat bath at T: bit for bit physgen.kernels.lattice.heat_bath at β = 1/T, replica 0;
//   φ⁴: S = (β/2) Σ (φ_i − φ_j)² + Σ (φ_i⁴ − (1 + 2β) φ_i²), checkerboard Metropolis. Site n of colour c takes in sweep t the word ⌊n/Q⌋ of
//   counter (t, 0, 1, 2³⁰c + n mod Q), Q = ⌈size²/8⌉: its upper 10 bits k propose φ + (k − 511.5) δ/512, its lower 22 bits accept. All moves
//   are odd multiples of δ/1024: a site stays on a grid, too fine to tell its sums from integrals, and is never rounded.
// Clusters, of both: Wolff's; a bond of i and j with φ_iφ_j > 0 is open with probability 1 − exp(−2βφ_iφ_j), and an open set that holds a random site
// flips: bit for bit physgen.kernels.lattice.wolff, lattice 2 of a batch (other lattices than the sweeps', so that no word is used twice).
// Hot starts: bit i mod 32 of word ⌊i/32⌋ mod 4 of counter (⌊i/128⌋, 0, 0, 2³² − 1) makes site i +1 or −1. Cold: all +1.
// A block of an Ising lattice takes the sign of its sum (of its first spin if that is 0), one of φ⁴ its mean.

const DEFAULTS = { size: 256, blocks: [1, 4, 16], model: "ising", beta: 0.68, start: "cold", rounds: 50, sweeps: 20, per_frame: 2, running: true, cut: "whole", seed: 1 };
const T_C = 2 / Math.log(1 + Math.SQRT2), BETA_C = 0.68;
const DELTA = 1.25, BETAS = [0.4, 1], WINDOW = 400;

// ---- random words, many at once

/** out[4HB + wH + j] = word w of counter (t, replica, stream + HB + j) for `blocks` blocks B of H counters: `philox`, in 32-bit arithmetic alone. */
function fillWords(out, t, replica, stream, blocks, H, keys) {
  const low = t % WORD | 0, high = Math.floor(t / WORD) | 0;
  for (let q = 0; q < blocks * H; q++) {
    let c0 = low, c1 = high, c2 = replica, c3 = (stream + q) | 0;
    for (let round = 0; round < 20; round += 2) {
      // The high word of a product from those of its halves; M0 = 0xd2511f53, M1 = 0xcd9e8d57.
      const a0 = c0 & 0xffff, a1 = c0 >>> 16, b0 = c2 & 0xffff, b1 = c2 >>> 16;
      const a = (Math.imul(a1, 0x1f53) + (Math.imul(a0, 0x1f53) >>> 16)) | 0, b = (Math.imul(b1, 0x8d57) + (Math.imul(b0, 0x8d57) >>> 16)) | 0;
      const high0 = Math.imul(a1, 0xd251) + (a >>> 16) + (((a & 0xffff) + Math.imul(a0, 0xd251)) >>> 16);
      const high1 = Math.imul(b1, 0xcd9e) + (b >>> 16) + (((b & 0xffff) + Math.imul(b0, 0xcd9e)) >>> 16);
      const low0 = Math.imul(c0, 0xd2511f53), low1 = Math.imul(c2, 0xcd9e8d57);
      c0 = high1 ^ c1 ^ keys[round];
      c1 = low1;
      c2 = high0 ^ c3 ^ keys[round + 1];
      c3 = low0;
    }
    const at = 4 * H * Math.floor(q / H) + (q % H);
    out[at] = c0;
    out[at + H] = c1;
    out[at + 2 * H] = c2;
    out[at + 3 * H] = c3;
  }
}

/** The keys of the ten rounds. */
function roundKeys([k0, k1]) {
  return Int32Array.from({ length: 20 }, (_, i) => (i % 2 ? k1 + (i >> 1) * 0xbb67ae85 : k0 + (i >> 1) * 0x9e3779b9) % WORD | 0);
}

// ---- the two models: `sweep(t, parameter)` moves all sites once

/** ±1 at each site. */
function startSpins(sites, start, key) {
  if (start === "cold") return new Int8Array(sites).fill(1);
  let draws = [];
  return Int8Array.from({ length: sites }, (_, i) => {
    if (i % 128 === 0) draws = philox(i / 128, 0, 0, WORD - 1, key);
    return (draws[(i >> 5) & 3] >>> (i & 31)) & 1 ? 1 : -1;
  });
}

/** Means over the sites of φ and φ², and S per site; for spins φ⁴ − φ² = 0, and S is the energy if the coupling is 1. */
function measure(f, L, coupling) {
  let sum = 0, square = 0, energy = 0;
  for (let row = 0; row < L; row++) {
    const here = row * L, down = row < L - 1 ? here + L : 0;
    for (let x = 0; x < L; x++) {
      const v = f[here + x], v2 = v * v;
      sum += v;
      square += v2;
      energy += v2 * v2 - v2 - coupling * v * (f[down + x] + f[here + (x < L - 1 ? x + 1 : 0)]);
    }
  }
  return { m: sum / (L * L), energy: energy / (L * L), square: square / (L * L) };
}

function ising(L, start, seed) {
  const s = startSpins(L * L, start, words(seed)), keys = roundKeys(words(seed)), N = (L * L) / 2;
  const H = Math.min(128, 2 ** Math.ceil(Math.log2(Math.ceil(N / 8)))), blocks = Math.ceil(N / (8 * H));
  // A word serves two sites, its lower half the first (every browser keeps the lower half first).
  const drawn = new Int32Array(4 * blocks * H), halves = new Uint16Array(drawn.buffer);
  const upper = new Int32Array(5), lower = new Float64Array(5);
  const sweep = (t, T) => {
    for (let h = 0; h < 5; h++) {
      const threshold = Math.min(2 ** 48 - 1, Math.floor(2 ** 48 / (1 + Math.exp(Math.min(700, (8 - 4 * h) / T)))));
      upper[h] = Math.floor(threshold / WORD);
      lower[h] = threshold % WORD;
    }
    for (const colour of [0, 1]) {
      fillWords(drawn, t, 0, 2 ** 30 * colour, blocks, H, keys);
      for (let row = 0, n = 0; row < L; row++) {
        const here = row * L, up = (row ? here : L * L) - L, down = row < L - 1 ? here + L : 0;
        for (let x = (row + colour) & 1; x < L; x += 2, n++) {
          const h = (s[up + x] + s[down + x] + s[here + (x ? x : L) - 1] + s[here + (x < L - 1 ? x + 1 : 0)] + 4) >> 1;
          const u = halves[n];
          if (u === upper[h]) s[here + x] = philox(...words(t), 0, 2 ** 30 * (2 + colour) + (n >> 2), words(seed))[n & 3] < lower[h] ? 1 : -1;
          else s[here + x] = u < upper[h] ? 1 : -1;
        }
      }
    }
  };
  const block = (sum, first) => Math.sign(sum) || first;
  return { field: s, sweep, measure: () => measure(s, L, 1), block, accepted: () => 1 };
}

function phi4(L, start, seed) {
  const f = Float64Array.from(startSpins(L * L, start, words(seed))), keys = roundKeys(words(seed)), Q = Math.ceil((L * L) / 8);
  const drawn = new Int32Array(4 * Q);
  let accepted = 0, proposed = 0;
  const sweep = (t, beta) => {
    for (const colour of [0, 1]) {
      fillWords(drawn, t, 1, 2 ** 30 * colour, 1, Q, keys);
      for (let row = 0, n = 0; row < L; row++) {
        const here = row * L, up = (row ? here : L * L) - L, down = row < L - 1 ? here + L : 0;
        for (let x = (row + colour) & 1; x < L; x += 2, n++) {
          const around = f[up + x] + f[down + x] + f[here + (x ? x : L) - 1] + f[here + (x < L - 1 ? x + 1 : 0)];
          const old = f[here + x], word = drawn[n], next = old + ((word >>> 22) - 511.5) * (DELTA / 512), a = old * old, b = next * next;
          const rise = b * b - b - a * a + a - beta * around * (next - old);
          if (rise <= 0 || (word & 0x3fffff) + 0.5 < 2 ** 22 * Math.exp(-rise)) { f[here + x] = next; accepted++; }
        }
      }
    }
    proposed += L * L;
  };
  return { field: f, sweep, measure: (beta) => measure(f, L, beta), block: (sum, _, count) => sum / count, accepted: () => accepted / Math.max(1, proposed) };
}

/** How to flip the cluster of a step: every site has the bonds to the right (0) and down (1). */
function clusters(f, L, seed) {
  const N = L * L, H = Math.ceil(N / 2), drawn = new Int32Array(4 * H), queue = new Int32Array(N), key = words(seed), keys = roundKeys(key);
  return (step, beta) => {
    fillWords(drawn, step, 2, 1, 1, H, keys);
    const open = (i, bond, product) => {
      const p = -Math.expm1(-2 * beta * product);
      return p > 1 - 2 ** -33 || drawn[(2 * (i & 1) + bond) * H + (i >> 1)] >>> 0 < Math.floor(WORD * p);
    };
    const first = Math.floor((philox(...words(step), 2, 0, key)[0] * N) / WORD);
    queue[0] = first;
    f[first] = -f[first];
    for (let head = 0, tail = 1; head < tail; head++) {
      const i = queue[head], x = i % L, row = i - x, value = -f[i], left = row + (x ? x : L) - 1, up = (row ? i : i + N) - L;
      const take = (j, from, bond) => {
        // What has been taken has the other sign already.
        if (value * f[j] > 0 && open(from, bond, value * f[j])) { f[j] = -f[j]; queue[tail++] = j; }
      };
      take(row + (x < L - 1 ? x + 1 : 0), i, 0);
      take(left, left, 0);
      take(row + L < N ? i + L : x, i, 1);
      take(up, up, 1);
    }
  };
}

/** Blocks of b × b sites, and how like neighbours among them are: ⟨S S'⟩ / ⟨S²⟩. */
function blocked({ field, block }, L, b) {
  const side = L / b, values = b === 1 ? field : new Float64Array(side * side);
  for (let i = 0; b > 1 && i < side * side; i++) {
    const first = Math.floor(i / side) * b * L + (i % side) * b;
    let sum = 0;
    for (let row = 0; row < b; row++) for (let at = first + row * L; at < first + row * L + b; at++) sum += field[at];
    values[i] = block(sum, field[first], b * b);
  }
  let products = 0, squares = 0;
  for (let i = 0; i < side * side; i++) {
    const right = (i + 1) % side ? i + 1 : i + 1 - side, below = i + side < side * side ? i + side : i + side - side * side;
    products += values[i] * (values[right] + values[below]);
    squares += values[i] * values[i];
  }
  return { side, values, alike: squares ? products / (2 * squares) : 0 };
}

// ---- what happens

const MODELS = {
  ising: { make: ising, name: "Ising", parameter: "temperature $T$", reach: 1.08 },
  phi4: { make: phi4, name: "φ⁴", parameter: "coupling $\\beta$", reach: 1.45 },
};

/** The slider of a model walks along these values: the rows of the exact table, or steps of β. */
function gridOf(model, given) {
  if (model === "ising") return given.exact.T;
  return Array.from({ length: 121 }, (_, i) => Number((BETAS[0] + (i * (BETAS[1] - BETAS[0])) / 120).toFixed(4)));
}

const closest = (values, wanted) => values.reduce((best, v, i) => (Math.abs(v - wanted) < Math.abs(values[best] - wanted) ? i : best), 0);

function fresh(given, model, start, at = null) {
  const grid = gridOf(model, given), index = at ?? closest(grid, model === "ising" ? (given.T ?? T_C) : given.beta);
  const lattice = MODELS[model].make(given.size, start, given.seed), state = { model, grid, index, t: 0, flips: 0, trace: [], lattice, flip: clusters(lattice.field, given.size, given.seed) };
  forget(state);
  record(state);
  return state;
}

/** Averages begin anew. */
function forget(state) { state.sums = { count: 0, energy: 0, size: 0, square: 0 }; }

function record(state) {
  state.now = state.lattice.measure(state.grid[state.index]);
  state.trace.push(state.now.m);
  if (state.trace.length > WINDOW + 1) state.trace.shift();
}

/** Sweeps; in a round a cluster flips first. */
function advance(state, sweeps, rounds = false) {
  const { sums, grid, index, lattice } = state, beta = state.model === "ising" ? 1 / grid[index] : grid[index];
  for (let k = 0; k < sweeps; k++) {
    if (rounds) state.flip(state.flips++, beta);
    lattice.sweep(state.t++, grid[index]);
    record(state);
    sums.count++;
    sums.energy += state.now.energy;
    sums.size += Math.abs(state.now.m);
    sums.square += state.now.square;
  }
}

function sentence({ model, grid, index }) {
  const value = grid[index], order = model === "ising" ? T_C - value : value - BETA_C, near = Math.abs(order) < 0.02;
  const where = model === "ising" ? `T = ${fixed(value, 3)}` : `β = ${fixed(value, 3)}`;
  if (near) return `${where}, next to the critical point: islands within islands; ${model === "ising" ? "blocks look like sites" : "from scale to scale only the contrast fades, and slowly"}.`;
  if (order > 0) return `${where}, the ordered side: blocking wipes out the small islands, and the blocked lattice looks colder.`;
  return `${where}, the disordered side: neighbours among blocks know less and less of each other; blocking looks like heating.`;
}

// ---- what is seen

const ZOOM_CSS = `
.pgx-zoom { container-type: inline-size; }
.pgx-views { display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.8rem; }
@container (max-width: 36rem) { .pgx-views { grid-template-columns: 1fr 1fr; } .pgx-views > :first-child { grid-column: 1 / 3; } }
.pgx-views figure { margin: 0; min-width: 0; }
.pgx-views figure > div { position: relative; }
.pgx-views canvas { display: block; width: 100%; aspect-ratio: 1; image-rendering: pixelated; border: 1px solid var(--x-muted); }
.pgx-views i { position: absolute; border: 2px solid var(--x-paper); outline: 2px solid var(--x-ink); }
.pgx .pgx-views p { font-size: 14px; margin: 0.2rem 0 0; }
.pgx-legend li[hidden] { display: none; }
.pgx-marked { position: relative; padding-bottom: 16px; }
.pgx-marked small { position: absolute; bottom: -2px; width: 5rem; margin-left: -2.5rem; text-align: center; font-size: 12.5px; color: var(--x-muted); pointer-events: none; }
`;

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const pixel = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;

/** Colours of the theme from −1 to 1 in 255 steps: two for spins, blue over paper to orange for a field. */
function shades(canvas, model) {
  const style = getComputedStyle(canvas), ink = (name) => channels(style.getPropertyValue(`--x-${name}`).trim());
  if (model === "ising") return Int32Array.from({ length: 255 }, (_, i) => pixel(ink(i > 127 ? 1 : "grid")));
  const paper = ink("paper"), ends = [ink(2), ink(1)];
  return Int32Array.from({ length: 255 }, (_, i) => {
    const u = Math.abs(i - 127) / 127, end = ends[i > 127 ? 1 : 0];
    return pixel(end.map((v, c) => Math.round(u * v + (1 - u) * paper[c])));
  });
}

/** One lattice of blocks; in the cut "window" as many cells as the coarsest lattice has, from the middle. */
function scaleView(L, b, finer, coarsest) {
  const canvas = h("canvas", { role: "img", "aria-label": b === 1 ? "the lattice" : `the lattice in blocks of ${b} × ${b}` });
  const frame = h("i", { hidden: true }), text = h("p"), pen = canvas.getContext("2d");
  const cells = L / coarsest, corner = (step) => (L / step - cells) >> 1;
  const update = (state, cut) => {
    const { side, values, alike } = blocked(state.lattice, L, b), whole = cut === "whole", wide = whole ? side : cells, from = whole ? 0 : corner(b);
    if (canvas.width !== wide) Object.assign(canvas, { width: wide, height: wide });
    const image = pen.createImageData(wide, wide), out = new Int32Array(image.data.buffer), scale = 127 / (state.model === "ising" ? 1 : 1.3);
    for (let row = 0, i = 0; row < wide; row++) {
      for (let at = (from + row) * side + from; at < (from + row) * side + from + wide; at++) out[i++] = state.shades[127 + Math.round(scale * Math.max(-1.3, Math.min(1.3, values[at])))];
    }
    pen.putImageData(image, 0, 0);
    frame.hidden = whole || b === 1;
    if (!frame.hidden) {
      const percent = (v) => `${(100 * v) / cells}%`, size = percent((cells * finer) / b);
      frame.style.cssText = `left: ${percent((corner(finer) * finer) / b - from)}; top: ${percent((corner(finer) * finer) / b - from)}; width: ${size}; height: ${size}`;
    }
    text.textContent = `${b === 1 ? "sites" : `blocks of ${b} × ${b}`}: neighbours alike ${fixed(alike, 3)}`;
    return alike;
  };
  return { el: h("figure", {}, h("div", {}, canvas, frame), text), canvas, update };
}

const LIVE = stroke(2, null, 1.5), EXACT = stroke(1, "5 4", 1.8);

/** The magnetisation of the last sweeps; ±M of the infinite lattice as lines. */
function traceView() {
  const host = h("div"), picture = chart(host, { alt: "magnetisation of the last sweeps" });
  const line = h("path", LIVE), exact = h("path", EXACT);
  picture.marks.append(exact, line);
  const layout = ({ model }) => {
    key.lastChild.hidden = model !== "ising";
    picture.layout({ x: { range: [-WINDOW, 0], label: "sweeps ago" }, y: { range: [-1, 1].map((v) => v * MODELS[model].reach), label: "$m$" }, height: 190 });
  };
  const update = ({ trace }, M) => {
    const { X, Y, box } = picture;
    line.setAttribute("d", pathThrough(trace.map((_, i) => X(i + 1 - trace.length)), trace.map(Y)));
    exact.setAttribute("d", M === null ? "" : [M, -M].map((v) => `M${box.left} ${Y(v)}h${box.width}`).join(""));
  };
  const key = legend([{ label: "this lattice", mark: h("path", { d: "M1 9l5 -4l5 3l5 -4l5 5l8 -3", ...LIVE }) }, { label: "$\\pm M$ of the infinite lattice, exact", mark: h("path", { d: "M1 7h28", ...EXACT }) }]);
  return { parts: [host, key], layout, update };
}

/** A range with a named mark under the value that matters. */
function markedSlider(state, change) {
  const { grid, index, model } = state, critical = model === "ising" ? T_C : BETA_C;
  const control = slider({ label: MODELS[model].parameter, min: 0, max: grid.length - 1, step: 1, value: index, show: (i) => fixed(grid[i], 3), change });
  let after = grid.findIndex((v) => v >= critical);
  if (after < 1) return control.el;
  const at = (after - (grid[after] - critical) / (grid[after] - grid[after - 1])) / (grid.length - 1);
  const holder = h("span", { class: "pgx-marked" });
  control.input.replaceWith(holder);
  // The thumb is 16 pixels wide: its middle never reaches the ends.
  holder.append(control.input, h("small", { style: `left: calc(8px + ${at} * (100% - 16px))` }, ...texHtml(model === "ising" ? "$T_c$" : "$\\beta_c$")));
  return control.el;
}

function render({ model, el }) {
  const given = { ...DEFAULTS, ...model.get("params") };
  let state = fresh(given, given.model, given.start), cut = given.cut, speed = given.per_frame;
  const { root, dispose } = mount(el, model, () => { recolour(); trace.layout(state); draw(); });
  const coarsest = Math.max(...given.blocks), views = given.blocks.map((b, k) => scaleView(given.size, b, given.blocks[k - 1], coarsest));
  const trace = traceView(), status = spoken(), knob = h("span");
  const numbers = {
    ising: readings({ sweeps: "sweeps", m: "$m$", size: "mean $|m|$", M: "exact $M$", energy: "$u$", mean: "mean $u$", exact: "exact $u$", count: "averaged over" }),
    phi4: readings({ sweeps: "sweeps", m: "$m$", size: "mean $|m|$", energy: "action per site", mean: "its mean", square: "mean $\\phi^2$", rate: "accepted", count: "averaged over" }),
  };
  const table = h("div");
  const recolour = () => { state.shades = shades(views[0].canvas, state.model); };

  function draw() {
    const { now, sums, t, index, lattice } = state, exact = state.model === "ising" ? given.exact : null, M = exact ? exact.M[index] : null;
    const mean = Object.fromEntries(["energy", "size", "square"].map((name) => [name, sums.count ? sums[name] / sums.count : NaN])), text = (v) => (Number.isNaN(v) ? "–" : fixed(v, 4));
    const alike = views.map((view) => view.update(state, cut));
    trace.update(state, M);
    numbers[state.model].set({
      sweeps: String(t), m: fixed(now.m, 3), size: text(mean.size), energy: fixed(now.energy, 4), mean: text(mean.energy), count: `${sums.count} sweeps`,
      ...(exact ? { M: fixed(M, 4), exact: fixed(exact.u[index], 4) } : { square: text(mean.square), rate: `${Math.round(100 * lattice.accepted())} %` }),
    });
    Object.assign(root.dataset, { model: state.model, parameter: state.grid[index], sweeps: t, flips: state.flips, m: now.m, energy: now.energy, square: now.square, count: sums.count, cut });
    Object.assign(root.dataset, { meanEnergy: mean.energy, meanSize: mean.size, meanSquare: mean.square, accepted: lattice.accepted(), alike: JSON.stringify(alike) });
  }
  const later = oncePerFrame(draw);
  const tune = (index) => { state.index = index; forget(state); state.now = state.lattice.measure(state.grid[index]); status.say(sentence(state)); later(); };
  /** A model, brought near equilibrium by clusters; then averages begin. */
  const begin = (which) => {
    state = fresh(given, which, given.start);
    advance(state, given.rounds, true);
    state.trace = [];
    forget(state);
    advance(state, given.sweeps);
    knob.replaceChildren(markedSlider(state, tune));
    table.replaceChildren(numbers[which].el);
    recolour();
    trace.layout(state);
    status.say(sentence(state));
  };
  /** From the other start, at the same temperature. */
  const restart = (start) => { Object.assign(state, fresh(given, state.model, start, state.index)); later(); };
  // A slow machine makes fewer sweeps, not fewer frames. Once a second under reduced motion: then more at a time.
  const tick = () => {
    const until = performance.now() + (reducedMotion() ? 200 : 16), wanted = reducedMotion() ? 10 * speed : speed;
    for (let k = 0; k < wanted && performance.now() < until; k++) advance(state, 1);
    draw();
  };
  const run = animation(root, tick, (running) => { play.textContent = running ? "Pause" : "Run"; });
  const play = button("Run", run.toggle, true);
  const step = button("One sweep", () => { run.stop(); advance(state, 1); later(); });
  const jump = button("20 sweeps with clusters", () => { advance(state, 20, true); later(); });
  const pick = choice("model", { ising: MODELS.ising.name, phi4: MODELS.phi4.name }, given.model, (which) => { begin(which); draw(); });
  const frames = slider({ label: "sweeps a frame", min: 1, max: 10, step: 1, value: speed, show: String, change: (v) => { speed = v; } });
  const window_ = choice("show", { whole: "the whole lattice", window: "as many cells of each" }, cut, (v) => { cut = v; later(); });
  const bar = (...parts) => h("div", { class: "pgx-bar" }, ...parts);
  root.append(
    h("style", {}, ZOOM_CSS), h("div", { class: "pgx-zoom" }, h("div", { class: "pgx-views" }, ...views.map((view) => view.el))), status.el,
    bar(knob, pick.el, window_.el), bar(play, step, button("Reset hot", () => restart("hot")), button("Reset cold", () => restart("cold")), jump),
    h("div", { class: "pgx-row" }, h("div", { class: "pgx-panel" }, ...trace.parts), h("div", { class: "pgx-panel" }, table, bar(frames.el))),
  );
  begin(given.model);
  draw();
  if (given.running && !reducedMotion()) run.start();
  return () => { run.dispose(); dispose(); };
}

export default { render };
