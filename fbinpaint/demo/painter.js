// A picture to paint on. Strokes are kept as they were drawn, in the picture's pixels, and the server draws them again
// at the photo's full size (strokes.py): nothing is read back from a canvas.
//
//   {kind: "line", points: [[x, y], ...], size}     the brush
//   {kind: "area", points: [[x, y], ...]}           lasso and box
//   {kind: "mask", mask: name on the server, tag}   what a click or a file selects; tag = its class
// each with `erase`, or with the class that it paints on a map: `label` and its `colour`.

const MARK = "#e6007a"; // of what is to be filled; stands out from photos, in both themes
const STEP = 2; // pixels of the picture between the points of a line

class Painter {
  constructor(root, tool, changed, pick) {
    Object.assign(this, { root, tool, changed, pick, strokes: [], done: [], undone: [], width: 0, height: 0, active: null });
    this.picture = root.querySelector("img");
    [this.paint, this.cursor] = root.querySelectorAll("canvas");
    this.at = null; // where the brush is, in the picture's pixels
    root.addEventListener("pointerdown", (event) => this.down(event));
    root.addEventListener("pointermove", (event) => this.move(event));
    root.addEventListener("pointerup", () => this.finish());
    root.addEventListener("pointercancel", () => this.cancel());
    root.addEventListener("pointerleave", () => this.active || this.show(null));
    root.addEventListener("keydown", (event) => this.key(event));
  }

  // The picture is shown once it has loaded; of two that are asked for, the later one stays. "" = none, until when
  // nothing can be painted.
  async load(url) {
    if (url === this.url) return;
    this.url = url;
    if (!url) {
      this.picture.removeAttribute("src");
      return void Object.assign(this, { width: 0, height: 0 });
    }
    const picture = new Image();
    picture.src = url;
    try {
      await picture.decode();
    } catch {
      if (url === this.url) this.url = null; // the connection broke; the server's next answer asks for it again
      return;
    }
    if (url !== this.url) return;
    this.picture.src = url;
    const { naturalWidth: width, naturalHeight: height } = picture;
    if (width === this.width && height === this.height) return;
    Object.assign(this, { width, height });
    for (const canvas of [this.paint, this.cursor]) Object.assign(canvas, { width, height });
    this.root.style.setProperty("--aspect", width / height);
    this.draw();
  }

  get brush() {
    return Math.max(1, (this.tool.size / 100) * Math.min(this.width, this.height));
  }

  // What the server gives is where the visitor's changes start from. What he has drawn himself, before the page was
  // loaded anew, is undone stroke by stroke.
  set(strokes, own = false) {
    const done = own ? strokes.map((_, count) => ({ strokes: strokes.slice(0, count), time: 0 })) : [];
    Object.assign(this, { strokes, done, undone: [] });
    this.draw();
  }

  change(strokes) {
    this.done.push({ strokes: this.strokes, time: performance.now() });
    this.undone = [];
    this.replace(strokes);
  }

  // When what would be undone, or redone, was done.
  get latest() {
    return this.done.at(-1)?.time ?? -Infinity;
  }

  get following() {
    return this.undone.at(-1)?.time ?? Infinity;
  }

  replace(strokes) {
    this.strokes = strokes;
    this.draw();
    this.changed();
  }

  add(stroke) {
    this.change([...this.strokes, stroke]);
  }

  // What carries a tag goes, and nothing else.
  drop(tag) {
    this.change(this.strokes.filter((stroke) => stroke.tag !== tag));
  }

  clear() {
    if (this.strokes.length) this.change([]);
  }

  undo() {
    return this.exchange(this.done, this.undone);
  }

  redo() {
    return this.exchange(this.undone, this.done);
  }

  exchange(from, to) {
    if (!from.length) return false;
    const { strokes, time } = from.pop();
    to.push({ strokes: this.strokes, time });
    this.replace(strokes);
    return true;
  }

  // ---------------------------------------------------------------- drawing

  draw() {
    this.paint.getContext("2d").clearRect(0, 0, this.width, this.height);
    this.strokes.forEach((stroke) => this.stroke(stroke));
  }

  stroke(stroke) {
    const pen = this.paint.getContext("2d");
    pen.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
    pen.fillStyle = pen.strokeStyle = stroke.colour ?? MARK;
    if (stroke.kind === "mask") {
      if (stroke.image.naturalWidth) pen.drawImage(stroke.image, 0, 0, this.width, this.height); // it could be loaded
    } else if (stroke.kind === "area") pen.fill(outline(stroke.points));
    else {
      Object.assign(pen, { lineWidth: stroke.size, lineCap: "round", lineJoin: "round" });
      pen.stroke(outline(stroke.points));
    }
  }

  // The brush where it would paint, and the line of a lasso or box that is not closed yet.
  show(at) {
    this.at = at;
    const pen = this.cursor.getContext("2d");
    pen.clearRect(0, 0, this.width, this.height);
    if (!at || !this.width) return;
    const shape = new Path2D(this.active?.kind === "area" ? outline(this.active.points) : undefined);
    if (this.active?.kind !== "area") {
      if (["brush", "eraser"].includes(this.tool.name)) shape.arc(at[0], at[1], this.brush / 2, 0, 7);
      else {
        const arm = 0.02 * Math.max(this.width, this.height);
        for (const [x, y] of [[arm, 0], [0, arm]]) {
          shape.moveTo(at[0] - x, at[1] - y);
          shape.lineTo(at[0] + x, at[1] + y);
        }
      }
    }
    const scale = this.width / (this.cursor.clientWidth || this.width);
    for (const [colour, width] of [["#000", 3], ["#fff", 1.2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width * scale;
      pen.stroke(shape);
    }
  }

  // ---------------------------------------------------------------- pointer and keys

  position(event) {
    const box = this.cursor.getBoundingClientRect();
    const round = (share, length) => Math.round(share * length * 10) / 10;
    return [
      round((event.clientX - box.left) / box.width, this.width),
      round((event.clientY - box.top) / box.height, this.height),
    ];
  }

  begin(at) {
    const { name, label, colour } = this.tool;
    if (name === "pick") return void (this.active = { kind: "pick", points: [at] });
    const erase = name === "eraser";
    const kind = name === "brush" || erase ? "line" : "area";
    const paints = this.tool.paints(this) ? { label, colour } : {};
    this.active = { kind, points: [at], ...(kind === "line" && { size: this.brush }), ...(erase ? { erase } : paints) };
    if (kind === "line") this.stroke(this.active);
  }

  extend(at) {
    const { kind, points } = this.active;
    const last = points.at(-1);
    if (this.tool.name === "box") {
      const [x, y] = points[0];
      points.splice(1, 3, [at[0], y], at, [x, at[1]]);
    } else if (kind !== "pick" && Math.hypot(at[0] - last[0], at[1] - last[1]) >= STEP) {
      points.push(at);
      if (kind === "line") this.stroke({ ...this.active, points: [last, at] });
    }
  }

  down(event) {
    if (event.button || !this.width || this.tool.busy()) return;
    if (this.active) return this.cancel(); // a second finger: both move the page
    event.preventDefault(); // no text is selected, no picture dragged
    this.root.focus({ preventScroll: true });
    this.root.setPointerCapture(event.pointerId);
    this.begin(this.position(event));
    this.show(this.position(event));
  }

  move(event) {
    if (!this.width) return;
    if (this.active) {
      for (const part of event.getCoalescedEvents?.() ?? [event]) this.extend(this.position(part));
    }
    this.show(this.position(event));
  }

  finish() {
    const stroke = this.active;
    this.active = null;
    if (!stroke) return;
    if (stroke.kind === "pick") this.pick(stroke.points[0].map(Math.floor));
    else if (stroke.kind === "line" || stroke.points.length > 2) this.add(stroke);
    this.show(this.at);
  }

  cancel() {
    this.active = null;
    this.draw();
    this.show(null);
  }

  // Arrows move the brush, with Shift they paint, Space paints a dot, or picks.
  key(event) {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!this.width || this.tool.busy() || (!direction && event.key !== " ")) return;
    event.preventDefault();
    const from = this.at ?? [this.width / 2, this.height / 2];
    if (!direction) {
      this.begin(from);
      if (this.active.kind === "area") this.active = null;
      else this.finish();
    } else {
      const far = Math.max(2, this.brush / 2);
      const clamp = (value, length) => Math.min(length - 1, Math.max(0, value));
      const to = [clamp(from[0] + far * direction[0], this.width), clamp(from[1] + far * direction[1], this.height)];
      if (event.shiftKey && ["brush", "eraser"].includes(this.tool.name)) {
        this.begin(from);
        this.extend(to);
        this.finish();
      }
      this.show(to);
    }
  }
}

function outline(points) {
  const path = new Path2D();
  const [[x, y], ...others] = points;
  path.moveTo(x, y);
  for (const point of others.length ? others : [[x + 0.01, y]]) path.lineTo(...point); // canvases draw no line of no length
  return path;
}
