// A noisy signal y = x + σz in an orthonormal wavelet basis: coefficients below T are set to zero, the others kept (hard) or moved by T towards
// zero (soft). Transform: that of physgen.kernels.wavelet, a_k = Σ h_i x_{2k+i−p+1}, d_k with g_i = (−1)^i h_{2p−1−i}, periodic; all coefficients are
// treated alike. The expected loss E|x̂ − x|² = σ² Σ_k r(T/σ, θ_k/σ) is exact, θ the coefficients of x, φ and Φ those of N(0, 1), a = −T − θ, b = T − θ:
//   soft: r = 1 + T² + (θ² − T² − 1)[Φ(b) − Φ(a)] + a φ(b) − b φ(a),   hard: r = 1 + (θ² − 1)[Φ(b) − Φ(a)] + b φ(b) − a φ(a).

const DEFAULTS = { rule: "soft", filter: [Math.SQRT1_2, Math.SQRT1_2] };
const POINTS = 160;
const RULES = { soft: 2, hard: 3 }; // colours

// ---- what is computed

const mod = (i, n) => ((i % n) + n) % n;
const details = (low) => low.map((_, i) => (i % 2 ? -1 : 1) * low[low.length - 1 - i]);

/** [approximation, details from coarse to fine]. */
function transform(x, low, levels) {
  const high = details(low), shift = 1 - low.length / 2, found = [];
  for (let level = 0; level < levels; level++) {
    const n = x.length, inner = (taps) => Array.from({ length: n / 2 }, (_, k) => taps.reduce((sum, tap, i) => sum + tap * x[mod(2 * k + i + shift, n)], 0));
    found.unshift(inner(high));
    x = inner(low);
  }
  return [x, ...found];
}

function inverse([coarse, ...found], low) {
  const high = details(low), shift = 1 - low.length / 2;
  return found.reduce((average, detail) => {
    const n = 2 * detail.length, x = new Array(n).fill(0);
    for (let k = 0; k < n / 2; k++) for (let i = 0; i < low.length; i++) x[mod(2 * k + i + shift, n)] += low[i] * average[k] + high[i] * detail[k];
    return x;
  }, coarse);
}

const density = (x) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

/** Φ: a series of positive terms near 0, a continued fraction in the tails. */
function normal(x) {
  const u = Math.abs(x);
  if (u > 38) return x > 0 ? 1 : 0;
  if (u > 5) {
    let fraction = 0;
    for (let k = 60; k > 0; k--) fraction = k / (u + fraction);
    return x > 0 ? 1 - density(u) / (u + fraction) : density(u) / (u + fraction);
  }
  let term = u, sum = u;
  for (let k = 3; term > 1e-17 * sum; k += 2) sum += term *= (u * u) / k;
  return 0.5 + Math.sign(x) * density(u) * sum;
}

/** r(T, θ) at σ = 1, for both rules. */
function risks(T, theta) {
  const a = -T - theta, b = T - theta, inside = normal(b) - normal(a), fa = density(a), fb = density(b);
  return { soft: 1 + T * T + (theta * theta - T * T - 1) * inside + a * fb - b * fa, hard: 1 + (theta * theta - 1) * inside + b * fb - a * fa };
}

const RULE = { soft: (y, T) => Math.sign(y) * Math.max(0, Math.abs(y) - T), hard: (y, T) => (Math.abs(y) > T ? y : 0) };
const add = (values, f) => values.reduce((sum, v) => sum + f(v), 0);

function study({ signal, noisy, sigma, filter, levels }) {
  const scales = { true: transform(signal, filter, levels), noisy: transform(noisy, filter, levels) }, theta = scales.true.flat(), y = scales.noisy.flat(), d = theta.length;
  // Equal coefficients, most of all those that are 0, are counted once.
  const counts = new Map();
  for (const v of theta) { const key = Number(Math.abs(v / sigma).toPrecision(13)); counts.set(key, (counts.get(key) ?? 0) + 1); }
  const risk = (T, rule) => { let sum = 0; for (const [v, n] of counts) sum += n * risks(T / sigma, v)[rule]; return sigma * sigma * sum; };
  const loss = (T, rule) => y.reduce((sum, v, k) => sum + (RULE[rule](v, T) - theta[k]) ** 2, 0);
  const attenuation = add(theta, (v) => (sigma * sigma * v * v) / (v * v + sigma * sigma)), binary = add(theta, (v) => Math.min(v * v, sigma * sigma));
  const universal = sigma * Math.sqrt(2 * Math.log(d)), bound = (2 * Math.log(d) + 1) * (sigma * sigma + binary);
  return { scales, theta, y, d, risk, loss, attenuation, binary, universal, bound };
}

// ---- what is seen

const dots = (xs, ys) => xs.map((x, i) => `M${x.toFixed(1)} ${ys[i].toFixed(1)}h0`).join("");
const DOTS = { stroke: color("muted"), "stroke-width": 3.2, "stroke-linecap": "round", "stroke-opacity": 0.6 };
const ESTIMATE = stroke(2, null, 2.2), TRUTH = stroke("ink", null, 1.6), LOSS = stroke("muted", "2 3", 1.8), UNIVERSAL = stroke(4, "8 4", 1.6);
const ORACLES = { binary: stroke(1, null, 1.6), attenuation: stroke(5, "5 2", 1.6) };
const tie = (dash, rule) => stroke(RULES[rule], dash, 2.2);

function signalView({ signal, noisy }) {
  const host = h("div"), picture = chart(host, { alt: "the signal, its noisy version and the estimate" });
  const low = Math.min(...noisy), high = Math.max(...noisy), room = 0.05 * (high - low);
  const layout = () => picture.layout({ x: { range: [0, signal.length - 1], label: "$n$" }, y: { range: [low - room, high + room], label: "$x_n$" }, height: 270, left: 60 });
  const update = (estimate) => {
    const { X, Y } = picture, xs = signal.map((_, i) => X(i)), path = (values) => pathThrough(xs, values.map(Y));
    picture.marks.replaceChildren(h("path", { d: dots(xs, noisy.map(Y)), ...DOTS }), h("path", { d: path(signal), ...TRUTH }), h("path", { d: path(estimate), ...ESTIMATE }));
  };
  const key = legend([
    { label: "noisy", mark: h("path", { d: "M4 9h0M11 4h0M18 10h0M25 6h0", ...DOTS }) }, { label: "truth", mark: h("path", { d: "M1 7h28", ...TRUTH }) },
    { label: "estimate", mark: h("path", { d: "M1 7h28", ...ESTIMATE }) },
  ]);
  return { parts: [host, key], layout, update };
}

/** Stems of the noisy coefficients, a row for each scale; those beyond ±T (the band) are kept. */
function coefficientView({ scales, universal, d }) {
  const host = h("div"), picture = chart(host, { alt: "coefficients of the noisy signal by scale, those kept marked" }), rows = scales.noisy, count = rows.length;
  const kept = h("path", { stroke: color(2), "stroke-width": 2 }), dropped = h("path", { stroke: color("muted"), "stroke-width": 1.2 }), band = h("path", { fill: color(1), "fill-opacity": 0.16 });
  picture.marks.append(band, dropped, kept);
  // A row is as high as twice 1.6 universal thresholds: what is larger is cut.
  const most = 1.6 * universal, height = 30 * count + 54;
  const powers = (j) => `2${[...String(j)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]).join("")}`, ticks = rows.map((_, r) => ({ value: count - r - 0.5, text: r ? powers(count - r) : "mean" }));
  const layout = () => picture.layout({ x: { range: [0, d], label: "$n$" }, y: { range: [0, count], label: "scale", ticks }, height, left: 60, grid: false });
  const update = (T) => {
    const { X, Y, box } = picture, paths = { kept: "", dropped: "" }, bands = [];
    rows.forEach((row, r) => {
      const zero = count - r - 0.5, half = (0.46 * Math.min(T, most)) / most;
      bands.push(`M${box.left} ${Y(zero - half)}V${Y(zero + half)}h${box.width}V${Y(zero - half)}z`);
      row.forEach((v, k) => {
        const top = zero + (0.46 * Math.max(-most, Math.min(most, v))) / most;
        paths[Math.abs(v) > T ? "kept" : "dropped"] += `M${X(((k + 0.5) * d) / row.length).toFixed(1)} ${Y(zero).toFixed(1)}V${Y(top).toFixed(1)}`;
      });
    });
    kept.setAttribute("d", paths.kept);
    dropped.setAttribute("d", paths.dropped);
    band.setAttribute("d", bands.join(""));
  };
  const key = legend([
    { label: "kept", mark: h("path", { d: "M8 13V2M15 13V5M22 13V1", stroke: color(2), "stroke-width": 2 }) }, { label: "set to 0", mark: h("path", { d: "M8 13V8M15 13V10M22 13V7", stroke: color("muted"), "stroke-width": 1.2 }) },
    { label: "$\\pm T$", mark: h("rect", { x: 1, y: 3, width: 28, height: 8, fill: color(1), "fill-opacity": 0.16 }) },
  ]);
  return { parts: [host, key], layout, update };
}

/** Expected loss and that of this noise against T, the oracles, the universal threshold; the line at T is dragged. */
function riskView({ risk, loss, universal, attenuation, binary }, sigma, state, move) {
  const host = h("div"), picture = chart(host, { alt: "loss against the threshold", role: "group" }), most = 1.5 * universal;
  const grid = Array.from({ length: POINTS + 1 }, (_, i) => (most * i) / POINTS), curves = Object.fromEntries(Object.keys(RULES).map((rule) => [rule, grid.map((T) => risk(T, rule))]));
  const top = 1.05 * Math.max(...Object.values(curves).flat(), binary), ground = h("rect", { fill: "transparent", style: "touch-action: none; cursor: ew-resize" }), label = h("text", { "text-anchor": "start" }, ...texSvg("$\\sigma\\sqrt(2 \\log d)$"));
  const handle = h("g", { class: "pgx-handle", role: "slider", tabindex: 0, "aria-label": "threshold on the axis; arrow keys move it", "aria-valuemin": 0, "aria-valuemax": most / sigma });
  const line = h("path", { stroke: color("ink"), "stroke-width": 1.6 }), grip = h("path", { d: "M0 -9L9 0L0 9L-9 0z", fill: color("ink"), stroke: color("paper"), "stroke-width": 2 }), now = h("circle", { r: 5, stroke: color("paper"), "stroke-width": 1.5 });
  handle.append(line, h("circle", { r: 16, fill: "transparent" }), grip);
  picture.top.append(label, ground, now, handle);
  const toT = ({ clientX }) => (most * (clientX - picture.svg.getBoundingClientRect().left - picture.box.left)) / picture.box.width;
  for (const node of [ground, handle]) drag(node, (event) => { handle.focus({ preventScroll: true }); move(toT(event)); }, (event) => move(toT(event)));
  handle.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!way) return;
    event.preventDefault();
    move(state.T + way * sigma * (event.shiftKey ? 0.25 : 0.05));
  });
  const layout = () => {
    picture.layout({ x: { range: [0, most / sigma], label: "threshold $T/\\sigma$" }, y: { range: [0, top], label: "loss" }, height: 330, left: 60 });
    const { left, top: above, width, height } = picture.box;
    attributes(ground, { x: left, y: above, width, height });
  };
  const update = () => {
    const { X, Y, box } = picture, xs = grid.map((T) => X(T / sigma)), { rule, T } = state, x = X(T / sigma), floor = box.top + box.height;
    const level = (value, style) => h("path", { d: `M${box.left} ${Y(value)}h${box.width}`, ...style });
    picture.marks.replaceChildren(
      level(binary, ORACLES.binary), level(attenuation, ORACLES.attenuation), h("path", { d: `M${X(universal / sigma)} ${box.top}v${box.height}`, ...UNIVERSAL }),
      h("path", { d: pathThrough(xs, grid.map((v) => Y(loss(v, rule)))), ...LOSS }),
      ...Object.keys(RULES).map((name) => h("path", { d: pathThrough(xs, curves[name].map(Y)), ...tie(name === "hard" ? "8 4" : null, name), "stroke-opacity": name === rule ? 1 : 0.45 })),
    );
    attributes(label, { x: X(universal / sigma) + 5, y: box.top + 14 });
    attributes(now, { cx: x, cy: Y(risk(T, rule)), fill: color(RULES[rule]) });
    attributes(line, { d: `M0 0V${box.top - floor}` });
    handle.setAttribute("transform", `translate(${x} ${floor})`);
    handle.setAttribute("aria-valuenow", T / sigma);
    handle.setAttribute("aria-valuetext", `T = ${fixed(T / sigma)} σ`);
  };
  const swatch = (label, style) => ({ label, mark: h("path", { d: "M1 7h28", ...style }) });
  const key = legend([swatch("expected, soft", tie(null, "soft")), swatch("hard", tie("8 4", "hard")), swatch("this noise", LOSS), swatch("oracle, keep or kill", ORACLES.binary), swatch("oracle, attenuation", ORACLES.attenuation)]);
  const best = (rule) => grid[curves[rule].reduce((a, v, i) => (v < curves[rule][a] ? i : a), 0)];
  return { parts: [host, key], layout, update, best, most };
}

function sentence({ T, rule }, { y, theta, risk, universal, binary, d }, best) {
  const kept = y.filter((v) => Math.abs(v) > T).length, real = y.filter((v, k) => Math.abs(v) > T && Math.abs(theta[k]) < 1e-9).length;
  const tail = `Expected loss ${fixed(risk(T, rule))}, ${fixed(risk(T, rule) / binary, 1)} times the keep-or-kill oracle’s.`;
  const noise = real ? ` of them ${real} ${real === 1 ? "is" : "are"} noise alone;` : "";
  if (T > 1.2 * universal) return `${kept} of ${d} coefficients kept;${noise} the threshold is high, and parts of the signal go with the noise. ${tail}`;
  return `${kept} of ${d} coefficients kept;${noise} ${rule} thresholding is best near T = ${fixed(best, 1)} σ here. ${tail}`;
}

function render({ model, el }) {
  const params = { ...DEFAULTS, ...model.get("params") }, { sigma, signal, filter } = params;
  // Down to an average of one number, if the filter is short enough to go that far.
  const deepest = Math.floor(Math.log2(signal.length / Math.max(2, filter.length))) + 1, given = { levels: deepest, ...params };
  const result = study(given), snap = (T) => Number(Math.min(risk.most, Math.max(0, T)).toPrecision(6));
  const state = { T: given.T ?? result.universal, rule: given.rule };
  const { root, dispose } = mount(el, model, () => { for (const view of views) view.layout(); draw(); });
  const risk = riskView(result, sigma, state, (T) => { state.T = snap(T); control.set(state.T / sigma); later(); }), curves = signalView(given), stems = coefficientView(result), views = [risk, curves, stems];
  const status = spoken(), numbers = readings({ T: "$T/\\sigma$", kept: "kept", risk: "expected loss", loss: "this noise", zero: "without denoising, $d\\sigma^2$", binary: "oracle, keep or kill", attenuation: "oracle, attenuation", bound: "bound at $\\sigma\\sqrt(2 \\log d)$" });

  function draw() {
    const { T, rule } = state, estimate = inverse(result.scales.noisy.map((row) => row.map((v) => RULE[rule](v, T))), filter), kept = result.y.filter((v) => Math.abs(v) > T).length;
    const expected = result.risk(T, rule), loss = add([...estimate.keys()], (n) => (estimate[n] - signal[n]) ** 2);
    risk.update();
    curves.update(estimate);
    stems.update(T);
    status.say(sentence(state, result, risk.best(rule) / sigma));
    numbers.set({ T: fixed(T / sigma), kept: `${kept} of ${result.d}`, risk: fixed(expected, 3), loss: fixed(loss, 3), zero: fixed(result.d * sigma * sigma, 3), binary: fixed(result.binary, 3), attenuation: fixed(result.attenuation, 3), bound: fixed(result.bound, 3) });
    Object.assign(root.dataset, { threshold: T, rule, kept, loss, soft: result.risk(T, "soft"), hard: result.risk(T, "hard"), universal: result.universal, binary: result.binary, attenuation: result.attenuation, bound: result.bound });
    root.dataset.estimate = JSON.stringify(estimate);
  }
  const later = oncePerFrame(draw);
  const control = slider({ label: "threshold $T/\\sigma$", min: 0, max: (risk.most / sigma).toFixed(2), step: 0.01, value: state.T / sigma, show: (v) => fixed(v), change: (v) => { state.T = snap(v * sigma); later(); } });
  const rule = choice("rule", { soft: "soft", hard: "hard" }, state.rule, (name) => { state.rule = name; later(); });
  const go = (label, T) => button(label, () => { state.T = T(); control.set(state.T / sigma); later(); });
  const bar = h("div", { class: "pgx-bar" }, control.el, rule.el, go("Universal", () => result.universal), go("Best", () => risk.best(state.rule)));
  root.append(h("div", { class: "pgx-row" }, h("div", { class: "pgx-panel" }, ...curves.parts, ...stems.parts), h("div", { class: "pgx-panel" }, ...risk.parts, bar, status.el, numbers.el)));
  for (const view of views) view.layout();
  draw();
  return () => dispose();
}

export default { render };
