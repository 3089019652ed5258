// One image on its way into noise and back: frames at the times t_0 > … > t_{K−1}, from noise to data. Backward, all branches share the
// trunk (the frames 0 … fork − 1) and then part; the forward path is the image that was noised. Beside each frame stands the training
// image next to it. All numbers and pixels come from Python: {frames, probability, nearest, distance} of the trunk, of each branch and of
// the forward path, pixels as bytes in base64; `nearest` counts the images of `training`, whose numbers in the training set are `indices`.

const THUMB = 34;
const TAPE_CSS = `
.pgx-frames { display: flex; gap: 1rem; }
.pgx-frames > div { flex: 1 1 0; max-width: 13rem; }
.pgx-frames canvas { width: 100%; image-rendering: pixelated; border: 1px solid var(--x-muted); display: block; }
.pgx-frames p { margin: 0.2rem 0; font-size: 14px; min-height: 2.9em; font-variant-numeric: tabular-nums; }
.pgx-film { display: block; width: 100%; touch-action: pan-y; cursor: ew-resize; }
.pgx-curves { margin-right: 1rem; }
.pgx-branches fieldset { flex-wrap: wrap; gap: 0.3rem 0.9rem; }
.pgx-branches canvas { width: 30px; height: 30px; image-rendering: pixelated; border: 1px solid var(--x-muted); }
`;

// ---- what is read

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** The paths as lists of K frames: the branches, each with the trunk in front, and the forward path. */
function tapes({ size: [height, width], trunk, branches, forward }) {
  const area = height * width;
  const frames = ({ frames: text }) => { const all = bytes(text); return Array.from({ length: all.length / area }, (_, k) => all.subarray(k * area, (k + 1) * area)); };
  const read = (record) => ({ ...record, frames: frames(record) });
  const join = (a, b) => Object.fromEntries(["frames", "probability", "nearest", "distance"].map((name) => [name, [...a[name], ...b[name]]]));
  const start = read(trunk);
  return { branches: branches.map((branch) => join(start, read(branch))), forward: forward && read(forward) };
}

/** Where on the tape the time t lies, a number of frames; null outside. */
function placeOf(t, times) {
  const k = times.findIndex((value) => value <= t);
  if (k < 0 || t > times[0]) return null;
  return k === 0 ? 0 : k - (t - times[k]) / (times[k - 1] - times[k]);
}

/** A grey image of bytes as a canvas of its own size. */
function picture(width, height, alt) {
  const canvas = h("canvas", { width, height, ...(alt ? { role: "img", "aria-label": alt } : { "aria-hidden": "true" }) });
  const draw = (pixels) => {
    const image = new ImageData(width, height);
    pixels.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
    canvas.getContext("2d").putImageData(image, 0, 0);
  };
  return { canvas, draw };
}

// ---- what is seen

const MARK = stroke("muted", "2 3", 1.5), NOW = stroke(4, null, 1.5), FAINT = { ...stroke("muted", null, 1), "stroke-opacity": 0.6 };
const PATH = stroke(1, null, 2.5), FORWARD = stroke(2, "6 3", 2.5);

/** The film: the frames of the path above, the training images next to them below, in line with the curves. */
function filmView(host, { size: [height, width] }, last, pick) {
  const film = h("canvas", { class: "pgx-film", role: "img", "aria-label": "film of the path, and below each frame the nearest training image" });
  const one = picture(width, height);
  host.append(film);
  let box = null;
  const at = ({ clientX }) => Math.round(((clientX - film.getBoundingClientRect().left - box.left) / box.width) * last);
  drag(film, (event) => pick(at(event)));
  const draw = (of, frames, nearest, now) => {
    box = of;
    const full = host.clientWidth, ratio = devicePixelRatio || 1, tall = 2 * THUMB + 26;
    Object.assign(film, { width: Math.round(full * ratio), height: Math.round(tall * ratio) });
    film.style.height = `${tall}px`;
    const pen = film.getContext("2d"), style = getComputedStyle(film), ink = (name) => style.getPropertyValue(`--x-${name}`).trim();
    pen.scale(ratio, ratio);
    pen.imageSmoothingEnabled = false;
    // Every frame for which there is room, evenly spaced, and the one of the moment in its place.
    const each = Math.ceil(((THUMB + 2) * last) / box.width), half = THUMB / 2;
    const x = (k) => box.left + (k / last) * box.width;
    const [first, end] = [box.left - half - 4, box.left + box.width + half + 4];
    pen.fillStyle = "#1b1b1b";
    pen.fillRect(first, 0, end - first, tall);
    pen.fillStyle = "#f4f1e8";
    for (let hole = first + 4; hole < end - 6; hole += 12) { pen.fillRect(hole, 3, 6, 4); pen.fillRect(hole, tall - 7, 6, 4); }
    const stamp = (pixels, k, top) => { one.draw(pixels); pen.drawImage(one.canvas, x(k) - half, top, THUMB, THUMB); };
    const places = frames.map((_, k) => k).filter((k) => k % each === 0 && Math.abs(x(k) - x(now)) > THUMB);
    for (const k of [...places, now]) { stamp(frames[k], k, 11); stamp(nearest(k), k, THUMB + 15); }
    Object.assign(pen, { strokeStyle: ink(5), lineWidth: 3 });
    pen.strokeRect(x(now) - half - 1.5, 9.5, THUMB + 3, 2 * THUMB + 7);
  };
  return { draw };
}

/** Probability of the class, and distance to the nearest training image, along the tape. */
function curvesView({ labels, times, t_S: tS, t_C: tC, fork }, { branches, forward }) {
  const hosts = [0, 1].map(() => h("div", { class: "pgx-curves" })), last = times.length - 1;
  const above = chart(hosts[0], { alt: "probability of the class along the tape, for all branches" });
  const below = chart(hosts[1], { alt: "distance to the nearest training image along the tape, for all branches" });
  const paths = forward ? [...branches, forward] : branches;
  const far = 1.1 * Math.max(...paths.flatMap((path) => path.distance));
  const layout = () => {
    const x = { range: [0, last], label: `frame, from $t=${Number(times[0].toPrecision(3))}$ to $t=${Number(times[last].toPrecision(2))}$` };
    above.layout({ x: { ...x, label: "frame" }, y: { range: [-0.02, 1.02], label: `P(${labels[0]})` }, height: 180, left: 60, grid: false });
    below.layout({ x, y: { range: [0, far], label: "distance" }, height: 170, left: 60, grid: false });
  };
  const draw = (path, k, isForward) => {
    for (const [view, name] of [[above, "probability"], [below, "distance"]]) {
      const { X, Y, box } = view, line = (values) => pathThrough(values.map((_, i) => X(i)), values.map(Y));
      const marks = [["$t_S$", placeOf(tS, times)], ["$t_C$", placeOf(tC, times)]].filter(([, place]) => place !== null);
      view.marks.replaceChildren(
        ...marks.map(([, place]) => h("path", { d: `M${X(place)} ${box.top}v${box.height}`, ...MARK })),
        ...branches.map((other) => h("path", { d: line(other[name]), ...FAINT })),
        h("path", { d: `M${X(k)} ${box.top}v${box.height}`, ...NOW }),
        h("path", { d: line(path[name]), ...(isForward ? FORWARD : PATH) }),
        h("circle", { cx: X(fork - 1), cy: Y(branches[0][name][fork - 1]), r: 4, fill: color("ink") }),
        h("circle", { cx: X(k), cy: Y(path[name][k]), r: 5, fill: color(4), stroke: color("paper"), "stroke-width": 1.5 }),
      );
      view.top.replaceChildren(...marks.map(([text, place]) => h("text", { x: X(place) + 4, y: box.top + 13 }, ...texSvg(text))));
    }
  };
  return { hosts, above, layout, draw };
}

function render({ model, el }) {
  const given = model.get("params"), { size: [height, width], labels, times, fork, indices } = given;
  const read = tapes(given), last = times.length - 1, home = given.frame ?? last;
  const area = height * width, pixels = bytes(given.training), training = indices.map((_, j) => pixels.subarray(j * area, (j + 1) * area));
  let k = home, chosen = "0";
  const { root, dispose } = mount(el, model, () => { curves.layout(); draw(); });
  const frame = picture(width, height, "the frame"), near = picture(width, height, "the nearest training image");
  const notes = [h("p"), h("p")], status = spoken(), filmHost = h("div");
  const curves = curvesView(given, read), film = filmView(filmHost, given, last, (to) => { run.stop(); move(to); });

  function draw() {
    const isForward = chosen === "forward", path = isForward ? read.forward : read.branches[Number(chosen)];
    const t = times[k], p = path.probability[k], j = path.nearest[k], distance = path.distance[k];
    frame.draw(path.frames[k]);
    near.draw(training[j]);
    frame.canvas.setAttribute("aria-label", `frame at t = ${fixed(t, 3)}`);
    near.canvas.setAttribute("aria-label", `training image ${indices[j]}, the nearest`);
    notes[0].textContent = `t = ${fixed(t, 3)}: “${labels[0]}” with probability ${fixed(p)}, “${labels[1]}” with ${fixed(1 - p)}`;
    notes[1].textContent = `nearest of the training set: no. ${indices[j]}, at distance ${fixed(distance, distance < 10 ? 2 : 1)}`;
    film.draw(curves.above.box, path.frames, (i) => training[path.nearest[i]], k);
    curves.draw(path, k, isForward);
    const since = path.nearest.findLastIndex((other) => other !== path.nearest[last]) + 1;
    const copy = `the nearest training image is the same from t = ${fixed(times[since], 3)} on`;
    status.say(isForward ? `The image on its way into noise, seen backwards; ${copy}.` : `Branch ${Number(chosen) + 1} of ${read.branches.length} leaves the trunk after t = ${fixed(times[fork - 1], 3)} and ends as “${labels[path.probability[last] >= 0.5 ? 0 : 1]}”; ${copy}.`);
    Object.assign(root.dataset, { frame: k, t, path: chosen, probability: p, nearest: indices[j], distance, since });
  }
  const later = oncePerFrame(draw);
  function move(to) { k = Math.min(last, Math.max(0, to)); scrub.set(k); later(); }
  let clock = 0;
  const run = animation(root, () => {
    // Eight frames of the tape in a second; one where motion is reduced.
    if (!reducedMotion() && ++clock % 8) return true;
    move(k + 1);
    return k < last;
  }, (running) => {
    play.textContent = running ? "Pause" : "Play";
    scrub.output.setAttribute("aria-live", running ? "off" : "polite");
  });
  const play = button("Play", () => { if (k === last) move(0); run.toggle(); }, true);
  const scrub = slider({ label: "time", min: 0, max: last, step: 1, value: k, show: (i) => fixed(times[i], 3), change: (i) => { run.stop(); move(i); } });
  const thumb = (path, text) => { const small = picture(width, height); small.draw(path.frames[last]); return h("span", { class: "pgx-control" }, small.canvas, text); };
  const options = Object.fromEntries(read.branches.map((path, b) => [b, thumb(path, String(b + 1))]));
  if (read.forward) options.forward = thumb(read.forward, "forward path");
  const branch = choice("branch", options, chosen, (name) => { chosen = name; later(); });
  const reset = button("Reset", () => { run.stop(); chosen = "0"; branch.set(chosen); move(home); });
  const key = legend([
    { label: "this path", mark: h("path", { d: "M1 7h28", ...PATH }) },
    { label: "the other branches", mark: h("path", { d: "M1 7h28", ...FAINT }) },
    { label: "where they part", mark: h("circle", { cx: 15, cy: 7, r: 4, fill: color("ink") }) },
  ]);
  const card = ({ canvas }, text) => h("div", {}, canvas, text);
  const cards = h("div", { class: "pgx-panel pgx-frames" }, card(frame, notes[0]), card(near, notes[1]));
  const controls = h("div", { class: "pgx-panel pgx-branches" }, h("div", { class: "pgx-bar" }, play, scrub.el, reset), branch.el, status.el);
  root.append(h("style", {}, TAPE_CSS), h("div", { class: "pgx-row" }, cards, controls), filmHost, ...curves.hosts, key);
  curves.layout();
  draw();
  return () => { run.dispose(); dispose(); };
}

export default { render };
