// The noise on its way through a coupling flow, layer by layer of generation: what physgen.flows.coupling.layer_frames finds, quantised by
// physgen.explorables.flow_params: images of the lines of a grid and of samples (16 bits), log densities of the samples (16 bits), maps of the
// log density (8 bits). A layer moves one coordinate, x₁ ↦ e^{s}x₁ + t, and so does the way there, (1 − u)x₁ + u(e^{s}x₁ + t): between two
// layers the samples carry log p_k − log(1 − u + u e^{s}), s = log p_k − log p_{k+1}; only the shading is blended.

const DEFAULTS = { layer: 0, sample: 0 };
const PER_SECOND = 0.8, PARTS = 20;

// ---- what is computed

/** Numbers of 8 or 16 bits (the low byte first) between `low` and `high`. */
function unpacked({ low, high, data }, bytes) {
  const text = atob(data), top = 256 ** bytes - 1;
  return Float64Array.from({ length: text.length / bytes }, (_, i) => {
    const value = bytes === 1 ? text.charCodeAt(i) : text.charCodeAt(2 * i) + 256 * text.charCodeAt(2 * i + 1);
    return low + ((high - low) * value) / top;
  });
}

/** Layer by layer, arrays of the given length each. */
const split = (values, length) => Array.from({ length: values.length / length }, (_, k) => values.subarray(k * length, (k + 1) * length));

function film({ grid, points, log_density, log_map, samples, resolution, lines, nodes }) {
  const frames = { grid: split(unpacked(grid, 2), 4 * lines * nodes), points: split(unpacked(points, 2), 2 * samples) };
  const density = split(unpacked(log_density, 2), samples), maps = split(unpacked(log_map, 1), resolution ** 2), last = maps.length - 1;
  const tops = maps.map((map) => map.reduce((a, b) => Math.max(a, b)));
  /** The layer k before the place, the part u of the way to the next one. */
  const between = (place) => { const k = Math.min(last - 1, Math.floor(place)); return [k, place - k]; };
  const blend = (all, place) => { const [k, u] = between(place); return all[k].map((v, i) => (1 - u) * v + u * all[k + 1][i]); };
  const logDensity = (place) => {
    const [k, u] = between(place);
    return density[k].map((v, i) => v - Math.log1p(u * Math.expm1(v - density[k + 1][i])));
  };
  /** Which coordinate the layer after k moves: 0 or 1, told by the samples. */
  const moves = (k) => {
    const far = [0, 0];
    frames.points[k].forEach((v, i) => { far[i % 2] += Math.abs(frames.points[k + 1][i] - v); });
    return far[0] > far[1] ? 0 : 1;
  };
  return { last, between, logDensity, moves, grid: (p) => blend(frames.grid, p), points: (p) => blend(frames.points, p), map: (p) => blend(maps, p), top: (p) => blend(tops.map((v) => [v]), p)[0] };
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

function sentence({ last, moves, between }, place, average) {
  const [k, u] = between(place), whole = u < 1e-9 || u > 1 - 1e-9, at = u > 0.5 ? k + 1 : k, way = ["horizontal", "vertical"];
  if (whole && !at) return "Layer 0 is the noise itself: a round Gaussian, a straight grid.";
  const tail = ` Samples have a mean log density of ${fixed(average)} nats.`;
  if (whole && at === last) return `After all ${last} layers: the law that was learned.${tail}`;
  return whole ? `After layer ${at} of ${last}, which moved the ${way[moves(at - 1)]} coordinate.${tail}` : `Within layer ${k + 1} of ${last}: only the ${way[moves(k)]} coordinate moves.${tail}`;
}

// ---- what is seen

const FLOW_CSS = ".pgx .pgx-ground { cursor: crosshair; touch-action: manipulation; }";

/** The plane at one place of the film; a tap chooses the sample that is followed. */
function planeView(host, given, reel, state, tap) {
  const { extent, lines, nodes, resolution } = given;
  const picture = chart(host, { alt: "plane with the image of a grid, of samples and their density", role: "group" });
  const paint = underlay(host, "image of the grid and of the samples over the density");
  const coarse = h("canvas", { width: resolution, height: resolution });
  const ground = h("rect", { class: "pgx-ground", fill: "transparent" });
  picture.top.append(ground);
  ground.addEventListener("click", ({ clientX, clientY }) => {
    const { left, top } = picture.svg.getBoundingClientRect(), { box } = picture;
    tap(extent * ((2 * (clientX - left - box.left)) / box.width - 1), extent * (1 - (2 * (clientY - top - box.top)) / box.height));
  });
  const layout = () => {
    const spec = { x: { range: [-extent, extent], label: "$x_1$" }, y: { range: [-extent, extent], label: "$x_2$" }, grid: false };
    picture.layout(spec);
    // Again, now that the width is known: the plane is a square.
    picture.layout({ ...spec, height: picture.box.width + 54 });
    const { left, top, width, height } = picture.box;
    attributes(ground, { x: left, y: top, width, height });
  };
  const shade = (rgb) => {
    const map = reel.map(state.place), top = reel.top(state.place), image = new ImageData(resolution, resolution);
    // Row 0 of the map is the lowest y, row 0 of an image the highest.
    map.forEach((value, i) => image.data.set([...rgb, 205 * Math.exp(0.5 * Math.min(0, value - top))], 4 * ((resolution - 1 - Math.floor(i / resolution)) * resolution + (i % resolution))));
    coarse.getContext("2d").putImageData(image, 0, 0);
  };
  const web = (pen, image, family) => {
    for (let line = family * lines; line < (family + 1) * lines; line++) {
      for (let node = 0; node < nodes; node++) {
        const i = 2 * (line * nodes + node);
        pen[node ? "lineTo" : "moveTo"](picture.X(image[i]), picture.Y(image[i + 1]));
      }
    }
  };
  const update = (points) => {
    const { X, Y, box } = picture;
    paint(picture, (pen, ink) => {
      if (state.density) {
        shade([1, 3, 5].map((at) => parseInt(ink(1).slice(at, at + 2), 16)));
        // The pixels of the map are centred on its axis, whose ends are the edges of the plane.
        const pixel = box.width / (resolution - 1);
        pen.drawImage(coarse, box.left - pixel / 2, box.top - pixel / 2, box.width + pixel, box.height + pixel);
      }
      if (state.grid) {
        const image = reel.grid(state.place);
        for (const [family, name] of [[0, 3], [1, 4]]) {
          Object.assign(pen, { strokeStyle: ink(name), lineWidth: 1 });
          pen.beginPath();
          web(pen, image, family);
          pen.stroke();
        }
      }
      if (state.points) {
        Object.assign(pen, { fillStyle: ink(2), strokeStyle: ink("paper"), lineWidth: 0.7 });
        for (let i = 0; i < points.length; i += 2) { pen.beginPath(); pen.arc(X(points[i]), Y(points[i + 1]), 2.4, 0, 2 * Math.PI); pen.fill(); pen.stroke(); }
      }
    });
    const at = (place) => { const p = reel.points(place); return [X(p[2 * state.sample]), Y(p[2 * state.sample + 1])]; };
    const places = [...Array(Math.floor(state.place) + 1).keys(), state.place], trail = places.map(at), [cx, cy] = trail.at(-1);
    picture.marks.replaceChildren(
      h("path", { d: pathThrough(trail.map((p) => p[0]), trail.map((p) => p[1])), ...stroke("ink", null, 1.6) }),
      ...trail.slice(0, -1).map(([x, y]) => h("circle", { cx: x, cy: y, r: 2.6, fill: color("ink") })),
      h("circle", { cx, cy, r: 6, fill: color("paper"), stroke: color("ink"), "stroke-width": 2.5 }),
    );
  };
  return { layout, update };
}

const ALL = stroke(2), ONE = stroke("ink", "6 3");

/** Log density against the layer: of the followed sample, and the mean over all. */
function densityView(reel, state) {
  const host = h("div");
  const picture = chart(host, { alt: "log density of the samples against the layer" });
  const places = Array.from({ length: PARTS * reel.last + 1 }, (_, i) => i / PARTS), curves = places.map((p) => reel.logDensity(p)), averages = curves.map(mean);
  const update = (values, average) => {
    const own = curves.map((all) => all[state.sample]), low = Math.min(...averages, ...own), high = Math.max(...averages, ...own);
    picture.layout({ x: { range: [0, reel.last], label: "layer" }, y: { range: [low - 0.3, high + 0.3], label: "log density, nats" }, height: 260, left: 60 });
    const { X, Y, box } = picture, xs = places.map(X), bullet = (value, name) => h("circle", { cx: X(state.place), cy: Y(value), r: 5, fill: color(name), stroke: color("paper") });
    picture.marks.replaceChildren(
      h("path", { d: `M${X(state.place)} ${box.top}v${box.height}`, ...stroke("muted", null, 1) }),
      h("path", { d: pathThrough(xs, averages.map(Y)), ...ALL }), h("path", { d: pathThrough(xs, own.map(Y)), ...ONE }),
      bullet(average, 2), bullet(values[state.sample], "ink"),
    );
  };
  const key = legend([{ label: "mean over all samples", mark: h("path", { d: "M1 7h28", ...ALL }) }, { label: "the sample that is followed", mark: h("path", { d: "M1 7h28", ...ONE }) }]);
  return { parts: [host, key], update };
}

function render({ model, el }) {
  const given = { ...DEFAULTS, ...model.get("params") }, reel = film(given);
  const state = { place: given.layer, sample: given.sample, grid: true, points: true, density: true };
  const { root, dispose } = mount(el, model, () => { plane.layout(); draw(); });
  const host = h("div"), status = spoken(), curves = densityView(reel, state);
  const numbers = readings({ layer: "layer", average: "mean log density", own: "of the followed sample", position: "its place" });
  const plane = planeView(host, given, reel, state, (x, y) => {
    const points = reel.points(state.place), far = Array.from({ length: given.samples }, (_, i) => Math.hypot(points[2 * i] - x, points[2 * i + 1] - y));
    follow(far.reduce((best, v, i) => (v < far[best] ? i : best), 0));
    which.set(state.sample + 1);
  });

  function draw() {
    const points = reel.points(state.place), values = reel.logDensity(state.place), average = mean(values), position = [points[2 * state.sample], points[2 * state.sample + 1]];
    plane.update(points);
    curves.update(values, average);
    status.say(sentence(reel, state.place, average));
    numbers.set({ layer: fixed(state.place, Number.isInteger(state.place) ? 0 : 2), average: fixed(average, 3), own: fixed(values[state.sample], 3), position: `(${position.map((v) => fixed(v)).join(", ")})` });
    Object.assign(root.dataset, { place: state.place, sample: state.sample, average, logDensity: values[state.sample], moves: reel.moves(reel.between(state.place)[0]) });
    root.dataset.position = JSON.stringify(position);
    root.dataset.corner = JSON.stringify(Array.from(reel.grid(state.place).slice(0, 2)));
    root.dataset.map = JSON.stringify(Array.from(reel.map(state.place).filter((_, i) => i % (given.resolution + 1) === 0)));
  }
  const later = oncePerFrame(draw);
  const follow = (sample) => { state.sample = sample; later(); };
  const place = slider({ label: "layer", min: 0, max: reel.last, step: 1 / PARTS, value: given.layer, show: (v) => fixed(v, Number.isInteger(v) ? 0 : 2), change: (v) => { state.place = v; later(); } });
  const which = slider({ label: "sample", min: 1, max: given.samples, step: 1, value: given.sample + 1, show: String, change: (v) => follow(v - 1) });
  let before = null;
  const clock = animation(root, () => {
    // Whole layers, one a second, under reduced motion.
    const time = performance.now(), part = before === null ? 0 : (PER_SECOND * Math.min(100, time - before)) / 1000;
    before = time;
    state.place = Math.min(reel.last, reducedMotion() ? Math.floor(state.place) + 1 : state.place + part);
    place.set(state.place);
    draw();
    return state.place < reel.last;
  }, (running) => { play.textContent = running ? "Pause" : "Play"; before = null; });
  const play = button("Play", () => { if (state.place >= reel.last) state.place = 0; clock.toggle(); }, true);
  const go = (to) => { clock.stop(); state.place = Math.min(reel.last, Math.max(0, to)); place.set(state.place); later(); };
  const back = button("Back a layer", () => go(Math.ceil(state.place) - 1)), on = button("On a layer", () => go(Math.floor(state.place) + 1));
  const tick = (name, label) => h("label", { class: "pgx-control" }, h("input", { type: "checkbox", checked: state[name], onchange: ({ target }) => { state[name] = target.checked; later(); } }), label);
  const bar = (...parts) => h("div", { class: "pgx-bar" }, ...parts);
  const marks = legend([
    { label: "lines that were horizontal", mark: h("path", { d: "M1 7h28", ...stroke(3) }) },
    { label: "vertical", mark: h("path", { d: "M1 7h28", ...stroke(4) }) },
    { label: "samples", mark: h("circle", { cx: 15, cy: 7, r: 3.5, fill: color(2) }) },
  ]);
  const right = h("div", { class: "pgx-panel" }, ...curves.parts, bar(place.el, which.el), bar(play, back, on), bar(tick("grid", "grid"), tick("points", "samples"), tick("density", "density")));
  root.append(h("style", {}, FLOW_CSS), h("div", { class: "pgx-row" }, h("div", { class: "pgx-panel" }, host, marks), right), status.el, numbers.el);
  plane.layout();
  draw();
  return () => { clock.dispose(); dispose(); };
}

export default { render };
