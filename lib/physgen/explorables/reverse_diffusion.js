// From noise back to a mixture of Gaussians in the plane, p_0 = Σ_k w_k N(m_k, v 1): n Euler steps of the reverse family,
//   x ← x + δ [x + (1 + η) S(x, t)] + √(2ηδ) z,   S = (s Σ_k p_k m_k − x)/Γ,   p_k ∝ w_k exp(−|x − s m_k|²/2Γ),   Γ = v s² + Δ,
// s = e^{−t}, Δ = 1 − e^{−2t}, over the times t_k = t_max (1 − k/n)². The same numbers as physgen.kernels.reverse.gaussian_mixture:
// axis a of particle p is site i = 2p + a; in step k it takes normal number i mod 4 of the counter (k, 0, 0, 1 + ⌊i/4⌋), whatever η
// and n are. The start is standard normal, from the counter (0, 0, 1, 1 + ⌊i/4⌋): step 0 of replica 1.

const DEFAULTS = { variance: 0.04, t_max: 3, eta: 1, steps: 50, particles: 400, seed: 1 };
const STEPS = [5, 7, 10, 14, 20, 30, 50, 70, 100, 140, 200];
const TRAILS = 4;
const CELLS = 90;

// ---- what is computed

/** The normal numbers of the sites 0 … count − 1 in one step of one replica. */
function normals(step, replica, count, key) {
  const z = new Float64Array(4 * Math.ceil(count / 4));
  for (let i = 0; i < count; i += 4) {
    const [w0, w1, w2, w3] = philox(step, 0, replica, 1 + i / 4, key);
    z.set(normalPair(w0, w1), i);
    z.set(normalPair(w2, w3), i + 2);
  }
  return z.subarray(0, count);
}

const moments = (t, v) => ({ s: Math.exp(-t), gamma: v * Math.exp(-2 * t) - Math.expm1(-2 * t) });

/** p_k of the point (x, y), into `p`. */
function posterior(law, x, y, { s, gamma }, p) {
  let top = -Infinity, sum = 0;
  for (let k = 0; k < p.length; k++) {
    const dx = x - s * law.means[k][0], dy = y - s * law.means[k][1];
    p[k] = law.logWeights[k] - (dx * dx + dy * dy) / (2 * gamma);
    if (p[k] > top) top = p[k];
  }
  for (let k = 0; k < p.length; k++) sum += p[k] = Math.exp(p[k] - top);
  for (let k = 0; k < p.length; k++) p[k] /= sum;
}

/** All positions of all particles: `path[k]` at `times[k]`, x and y in turn. */
function simulate(law, { variance, t_max: tMax, eta, steps }, start, noise) {
  const times = Array.from({ length: steps + 1 }, (_, k) => tMax * (1 - k / steps) ** 2);
  const path = [start];
  const p = new Float64Array(law.means.length);
  for (let k = 0; k < steps; k++) {
    const now = moments(times[k], variance), delta = times[k] - times[k + 1];
    const z = noise(k), kick = Math.sqrt(2 * eta * delta);
    const x = path[k], next = new Float64Array(x.length);
    for (let i = 0; i < x.length; i += 2) {
      posterior(law, x[i], x[i + 1], now, p);
      for (let a = 0; a < 2; a++) {
        let centre = 0;
        for (let m = 0; m < p.length; m++) centre += p[m] * law.means[m][a];
        const score = (now.s * centre - x[i + a]) / now.gamma;
        next[i + a] = x[i + a] + delta * (x[i + a] + (1 + eta) * score) + kick * z[i + a];
      }
    }
    path.push(next);
  }
  return { times, path };
}

const secondMoment = (x) => dot(x, x) / x.length;

/** Mean and covariance (xx, xy, yy) of Σ_k w_k N(m_k, v 1), and its E|x|²/2. */
function exactMoments({ means, weights }, v) {
  const average = (f) => means.reduce((sum, m, k) => sum + weights[k] * f(m), 0);
  const [a, b] = [average((m) => m[0]), average((m) => m[1])];
  const covariance = [average((m) => m[0] ** 2) - a * a + v, average((m) => m[0] * m[1]) - a * b, average((m) => m[1] ** 2) - b * b + v];
  return { mean: [a, b], covariance, second: average((m) => m[0] ** 2 + m[1] ** 2) / 2 + v };
}

/** What the particles at the end say about p_0. For exact samples the shares have the mean w_k, the spread has the mean v. */
function verdict(law, v, x) {
  const P = x.length / 2, K = law.means.length, exact = exactMoments(law, v);
  const sums = [0, 0, 0, 0, 0], shares = new Float64Array(K), p = new Float64Array(K);
  let spread = 0;
  for (let i = 0; i < x.length; i += 2) {
    const a = x[i], b = x[i + 1];
    [a, b, a * a, a * b, b * b].forEach((value, j) => { sums[j] += value / P; });
    posterior(law, a, b, { s: 1, gamma: v }, p);
    for (let k = 0; k < K; k++) {
      shares[k] += p[k] / P;
      spread += (p[k] * ((a - law.means[k][0]) ** 2 + (b - law.means[k][1]) ** 2)) / 2 / P;
    }
  }
  const [a, b, aa, ab, bb] = sums;
  const [xx, xy, yy] = [aa - a * a, ab - a * b, bb - b * b].map((value, j) => (value - exact.covariance[j]) ** 2);
  return { mean: [a, b], second: (aa + bb) / 2, shares: Array.from(shares), spread, error: (xx + 2 * xy + yy) / 4 };
}

function sentence({ eta, steps, variance, particles }, { weights }, { spread, shares }) {
  const ratio = spread / variance - 1, chance = 2 / Math.sqrt(particles);
  const width = Math.abs(ratio) < chance ? "the modes have the right width" : `the modes have ${fixed(1 + ratio, ratio > 9 ? 0 : 1)} times the exact variance`;
  const off = Math.max(...shares.map((share, k) => Math.abs(share - weights[k])));
  const luck = Math.max(...weights.map((w) => Math.sqrt((w * (1 - w)) / particles)));
  return `${steps} steps at η = ${fixed(eta)}: ${width}; shares are off by at most ${fixed(100 * off, 1)}\u00a0% (chance alone: about ${fixed(200 * luck, 1)}\u00a0%).`;
}

// ---- what is seen

/** Particles over the exact density, with the trails of a few. */
function planeView(host, law, { variance, particles }) {
  const reach = Math.max(3, 1.1 * Math.max(...law.means.flat().map(Math.abs)) + 3 * Math.sqrt(variance));
  const picture = chart(host, { alt: "plane of the two coordinates" });
  const paint = underlay(host, `${particles} particles over the exact density of the noised data`);
  const coarse = h("canvas", { width: CELLS, height: CELLS });
  const place = Array.from({ length: CELLS }, (_, i) => reach * ((2 * i + 1) / CELLS - 1));
  const layout = () => {
    const spec = { x: { range: [-reach, reach], label: "$x_1$" }, y: { range: [-reach, reach], label: "$x_2$" }, grid: false };
    picture.layout(spec);
    // Again, now that the width is known: the plane is a square.
    picture.layout({ ...spec, height: picture.box.width + 54 });
    const outward = ([x, y]) => 1 + (3.2 * Math.sqrt(variance)) / (Math.hypot(x, y) || 1);
    const name = (m, k) => h("text", { x: picture.X(m[0] * outward(m)), y: picture.Y(m[1] * outward(m)) + 4, "text-anchor": "middle" }, String(k + 1));
    picture.top.replaceChildren(...law.means.map(name));
  };
  const density = ({ s, gamma }, rgb) => {
    const values = new Float64Array(CELLS * CELLS);
    law.means.forEach(([a, b], k) => {
      const along = (m) => place.map((x) => Math.exp(-((x - s * m) ** 2) / (2 * gamma)));
      const across = along(a), up = along(b);
      for (let i = 0; i < values.length; i++) values[i] += law.weights[k] * across[i % CELLS] * up[CELLS - 1 - Math.floor(i / CELLS)];
    });
    const top = values.reduce((a, b) => Math.max(a, b));
    const image = new ImageData(CELLS, CELLS);
    values.forEach((value, i) => image.data.set([...rgb, 200 * Math.sqrt(value / top)], 4 * i));
    coarse.getContext("2d").putImageData(image, 0, 0);
  };
  const update = ({ times, path }, k) => paint(picture, (pen, ink) => {
    const { X, Y, box } = picture;
    const rgb = [1, 3, 5].map((at) => parseInt(ink(1).slice(at, at + 2), 16));
    density(moments(times[k], variance), rgb);
    pen.drawImage(coarse, box.left, box.top, box.width, box.height);
    const dots = (from, to, r) => { pen.beginPath(); for (let i = from; i < to; i += 2) { const x = X(path[k][i]), y = Y(path[k][i + 1]); pen.moveTo(x + r, y); pen.arc(x, y, r, 0, 7); } };
    Object.assign(pen, { fillStyle: ink(2), strokeStyle: ink("paper"), lineWidth: 0.7 });
    dots(2 * TRAILS, path[k].length, 2.4);
    pen.fill();
    pen.stroke();
    Object.assign(pen, { fillStyle: ink("ink"), strokeStyle: ink("ink"), lineWidth: 1, globalAlpha: 0.55 });
    pen.beginPath();
    for (let i = 0; i < 2 * TRAILS; i += 2) path.slice(0, k + 1).forEach((x, j) => pen[j ? "lineTo" : "moveTo"](X(x[i]), Y(x[i + 1])));
    pen.stroke();
    pen.globalAlpha = 1;
    dots(0, 2 * TRAILS, 3.6);
    pen.fill();
  });
  return { layout, update };
}

const EXACT = stroke(1), RUN = stroke(2, "6 3"), SHARE = { fill: color(2), "fill-opacity": 0.75 };

/** E|x|²/2 against time, and the share of each mode at the end: exact, and of the particles. */
function measuresView(law, { variance, t_max: tMax, particles }) {
  const hosts = [h("div"), h("div")], K = law.weights.length;
  const above = chart(hosts[0], { alt: "second moment against time, exact and of the particles" });
  const below = chart(hosts[1], { alt: "share of the particles in each mode, and its exact weight" });
  const { second } = exactMoments(law, variance);
  const exact = (t) => 1 + (second - 1) * Math.exp(-2 * t);
  const high = 1.6 * Math.max(second, 1);
  const grid = Array.from({ length: 121 }, (_, i) => (tMax * i) / 120);
  const layout = () => {
    above.layout({ x: { range: [tMax, 0], label: "$t$" }, y: { range: [0, high], label: "$\\langle|x|^2\\rangle/2$" }, height: 190, left: 60 });
    below.layout({ x: { range: [0.5, K + 0.5], label: "mode" }, y: { range: [0, 1.5 * Math.max(...law.weights)], label: "share at $t=0$" }, height: 180, left: 60 });
  };
  const update = ({ times, second: trace, end }, k) => {
    const { X, Y } = above;
    above.marks.replaceChildren(
      h("path", { d: pathThrough(grid.map(X), grid.map((t) => Y(exact(t)))), ...EXACT }),
      h("path", { d: pathThrough(times.slice(0, k + 1).map(X), trace.slice(0, k + 1).map(Y)), ...RUN }),
      h("circle", { cx: X(times[k]), cy: Y(trace[k]), r: 4.5, fill: color(2) }),
    );
    const bars = end.shares.map((share, i) => `M${below.X(i + 0.7)} ${below.Y(0)}V${below.Y(share)}H${below.X(i + 1.3)}V${below.Y(0)}z`).join("");
    const wide = law.weights.map((w) => Math.sqrt((w * (1 - w)) / particles));
    const weights = law.weights.map((w, i) => `M${below.X(i + 0.6)} ${below.Y(w)}H${below.X(i + 1.4)}M${below.X(i + 1)} ${below.Y(w - wide[i])}V${below.Y(w + wide[i])}`).join("");
    below.marks.replaceChildren(h("path", { d: bars, ...SHARE }), h("path", { d: weights, ...EXACT }));
  };
  const key = legend([{ label: "exact, with the error of chance", mark: h("path", { d: "M1 7h28M15 2v10", ...EXACT }) }, { label: "particles", mark: h("path", { d: "M1 7h28", ...RUN }) }]);
  return { el: h("div", { class: "pgx-panel" }, ...hosts, key), layout, update };
}

function render({ model, el }) {
  const given = { ...DEFAULTS, ...model.get("params") };
  const params = { ...given };
  const K = given.means.length, weights = given.weights ?? Array(K).fill(1 / K);
  const law = { means: given.means, weights, logWeights: weights.map(Math.log) };
  const key = words(given.seed), count = 2 * given.particles, drawn = [];
  const start = normals(0, 1, count, key);
  const noise = (k) => (drawn[k] ??= normals(k, 0, count, key));
  const choices = [...new Set([...STEPS, given.steps])].sort((a, b) => a - b);
  let result = null;
  let place = 1; // how much of the run is over
  const { root, dispose } = mount(el, model, () => layout());
  const host = h("div"), left = h("div", { class: "pgx-panel" }, host);
  const plane = planeView(host, law, params), measures = measuresView(law, params);
  const status = spoken();
  const numbers = readings({ spread: "variance of a mode", exact: "exact", second: "$\\langle|x|^2\\rangle/2$", error: "squared error of the covariance" });

  function draw() {
    const k = Math.round(place * params.steps);
    plane.update(result, k);
    measures.update(result, k);
    scrub.set(k);
    Object.assign(root.dataset, { step: k, t: result.times[k] });
  }
  function compute() {
    result = simulate(law, params, start, noise);
    result.second = result.path.map(secondMoment);
    const end = (result.end = verdict(law, params.variance, result.path.at(-1)));
    numbers.set({ spread: fixed(end.spread, 4), exact: fixed(params.variance, 4), second: fixed(end.second, 3), error: end.error.toPrecision(2) });
    status.say(sentence(params, law, end));
    scrub.input.max = params.steps;
    const { mean, second, shares, spread, error } = end;
    Object.assign(root.dataset, { eta: params.eta, steps: params.steps, mean: JSON.stringify(mean), second, shares: JSON.stringify(shares), spread, error });
    draw();
  }
  const again = oncePerFrame(compute), later = oncePerFrame(draw);
  const run = animation(root, () => {
    place = Math.min(1, place + (reducedMotion() ? 1 / 8 : 1 / 300));
    draw();
    return place < 1;
  }, (running) => {
    runButton.textContent = running ? "Pause" : "Run";
    scrub.output.setAttribute("aria-live", running ? "off" : "polite");
  });
  const runButton = button("Run", () => { if (place === 1) place = 0; run.toggle(); }, true);
  const scrub = slider({
    label: "time $t$", min: 0, max: params.steps, step: 1, value: params.steps,
    show: (k) => (result ? fixed(result.times[k], 3) : ""), change: (k) => { run.stop(); place = k / params.steps; later(); },
  });
  const eta = slider({ label: "noise $\\eta$", min: 0, max: 2, step: 0.05, value: params.eta, show: (x) => fixed(x), change: (x) => { params.eta = x; again(); } });
  const steps = slider({
    label: "steps", min: 0, max: choices.length - 1, step: 1, value: choices.indexOf(params.steps),
    show: (i) => String(choices[i]), change: (i) => { params.steps = choices[i]; again(); },
  });
  const reset = button("Reset", () => {
    run.stop();
    Object.assign(params, given);
    place = 1;
    eta.set(params.eta);
    steps.set(choices.indexOf(params.steps));
    compute();
  });
  const layout = () => { plane.layout(); measures.layout(); if (result) draw(); };
  left.append(h("div", { class: "pgx-bar" }, runButton, scrub.el, reset), h("div", { class: "pgx-bar" }, eta.el, steps.el));
  root.append(h("div", { class: "pgx-row" }, left, measures.el), status.el, numbers.el);
  layout();
  compute();
  return () => { run.dispose(); dispose(); };
}

export default { render };
