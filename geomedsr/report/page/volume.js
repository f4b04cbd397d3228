// The layers of a volume in linked panels: by NiiVue where WebGL2 and an orientation are there, else as plain slices.
// Both kinds of panel have show(plane), move(place), smooth(on) and close(); a place is a share of the way to R, A and S.
"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const find = (name) => viewer.querySelector(`[data-part="${name}"]`);
  const state = { scene: data.scenes[0], plane: "0", place: [0.5, 0.5, 0.5], smooth: false, wanted: new Set(data.shown) };
  const short = (value) => Number(value.toPrecision(4)).toString();
  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const MAPS = { image: "gray", signed: "geomedsr signed", map: "inferno" };
  const SIGNED = [[0, 33, 102, 172], [64, 146, 197, 222], [128, 247, 247, 247], [192, 244, 165, 130], [255, 178, 24, 43]];

  function hasWebGL2() {
    try {
      return !!document.createElement("canvas").getContext("webgl2");
    } catch {
      return false;
    }
  }
  const modern = data.anatomical && typeof niivue === "object" && hasWebGL2();

  // --- Panels drawn by NiiVue ------------------------------------------------------------------------------------
  async function niivuePanel(layer, canvas, moved) {
    const view = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [1, 0.77, 0.24, 0.75], crosshairWidth: 0.35, crosshairWidthUnit: "percent", fontColor: [1, 0.77, 0.24, 1],
      isRadiologicalConvention: true, sagittalNoseLeft: true, isNearestInterpolation: true, dragAndDropEnabled: false,
      multiplanarShowRender: 0, showAllOrientationMarkers: true, multiplanarForceRender: false, loadingText: "", logLevel: "error", isColorbar: false, fontMinPx: 14,
    });
    await view.attachToCanvas(canvas);
    const at = SIGNED.map(([index]) => index), channel = (i) => SIGNED.map((stop) => stop[i]);
    view.addColormap(MAPS.signed, { R: channel(1), G: channel(2), B: channel(3), A: at.map(() => 255), I: at });
    await view.loadFromArrayBuffer(bytesOf(state.scene.layers[layer.key].nifti).buffer, `${layer.key}.nii.gz`);
    const volume = view.volumes[0];
    volume.setColormap(MAPS[layer.kind]);
    Object.assign(volume, { cal_min: layer.low, cal_max: layer.high }); // after the colours, which set limits of their own
    view.updateGLVolume();
    view.onLocationChange = (where) => moved([...view.scene.crosshairPos], where.values[0]?.value, where.mm);
    return {
      show: (plane) => {
        view.setIsOrientationTextVisible(plane === "all");
        view.setSliceType(plane === "all" ? view.sliceTypeMultiplanar : Number(plane));
      },
      move: (place) => { view.scene.crosshairPos = place; view.createOnLocationChange(); view.drawScene(); },
      smooth: (on) => view.setInterpolation(!on),
      close: () => view.gl.getExtension("WEBGL_lose_context")?.loseContext(),
    };
  }

  // --- Panels of plain slices ------------------------------------------------------------------------------------
  async function unpacked(text) {
    const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const raw = await new Response(stream).arrayBuffer();
    return new Uint8Array(raw, new DataView(raw).getFloat32(108, true));
  }
  const ramp = (stops, level) => {
    const next = Math.max(1, stops.findIndex(([at]) => at >= level)), [a, b] = [stops[next - 1], stops[next]];
    return [1, 2, 3].map((c) => a[c] + ((level - a[0]) / (b[0] - a[0])) * (b[c] - a[c]));
  };
  const INFERNO = [[0, 0, 0, 4], [64, 87, 16, 110], [128, 188, 55, 84], [192, 249, 142, 9], [255, 252, 255, 164]];
  const COLOURS = { image: (level) => [level, level, level], signed: (level) => ramp(SIGNED, level), map: (level) => ramp(INFERNO, level) };

  async function slicePanel(layer, canvas, moved) {
    const { nifti, shape, spacing } = state.scene.layers[layer.key], levels = await unpacked(nifti);
    const strides = [1, shape[0], shape[0] * shape[1]], context = canvas.getContext("2d");
    let plane = "0", place = [0.5, 0.5, 0.5], smooth = false, drawn = [];
    // Axial, coronal and sagittal planes cut the axes to S, A and R; without an orientation, the file's own three.
    const worldOf = (axis) => (data.anatomical ? 2 - state.scene.views.findIndex((view) => view.cut === axis) : axis);
    const turnedOf = (axis) => !state.scene.views.some((view) => (view.rows === axis && !view.turned[0]) || (view.columns === axis && !view.turned[1]));
    const rises = (axis) => !data.anatomical || turnedOf(axis);
    const indexOf = (axis) => {
      const share = place[worldOf(axis)], index = Math.min(Math.floor((rises(axis) ? share : 1 - share) * shape[axis]), shape[axis] - 1);
      return Math.max(0, index);
    };
    function sliceOf(view) {
      const rows = shape[view.rows], columns = shape[view.columns], image = new ImageData(columns, rows);
      const start = indexOf(view.cut) * strides[view.cut];
      for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
        const level = levels[start + (view.turned[0] ? rows - 1 - r : r) * strides[view.rows] + (view.turned[1] ? columns - 1 - c : c) * strides[view.columns]];
        image.data.set([...COLOURS[layer.kind](level), 255], 4 * (r * columns + c));
      }
      const surface = new OffscreenCanvas(columns, rows);
      surface.getContext("2d").putImageData(image, 0, 0);
      return surface;
    }
    function drawView(view, left, top, width, height) {
      const size = [shape[view.columns] * spacing[view.columns], shape[view.rows] * spacing[view.rows]];
      const scale = Math.min(width / size[0], height / size[1]), w = size[0] * scale, h = size[1] * scale;
      const x = left + (width - w) / 2, y = top + (height - h) / 2;
      context.imageSmoothingEnabled = smooth;
      context.drawImage(sliceOf(view), x, y, w, h);
      const share = (axis, turned) => { const at = (indexOf(axis) + 0.5) / shape[axis]; return turned ? 1 - at : at; };
      context.strokeStyle = "rgb(255 196 61 / 75%)";
      context.beginPath();
      context.moveTo(x + share(view.columns, view.turned[1]) * w, y);
      context.lineTo(x + share(view.columns, view.turned[1]) * w, y + h);
      context.moveTo(x, y + share(view.rows, view.turned[0]) * h);
      context.lineTo(x + w, y + share(view.rows, view.turned[0]) * h);
      context.stroke();
      if (view.ends && plane === "all") {
        const [up, down, start, end] = view.ends, middle = [x + w / 2 - 5, y + h / 2 + 5];
        const write = (words, left, bottom) => { context.strokeText(words, left, bottom); context.fillText(words, left, bottom); };
        Object.assign(context, { fillStyle: "#fff", strokeStyle: "#000", lineWidth: 3, font: "600 14px system-ui, sans-serif" });
        write(up, middle[0], y + 16);
        write(down, middle[0], y + h - 6);
        write(start, x + 6, middle[1]);
        write(end, x + w - 16, middle[1]);
      }
      drawn.push({ view, x, y, w, h });
    }
    function draw() {
      const scale = devicePixelRatio || 1, { clientWidth: width, clientHeight: height } = canvas;
      canvas.width = width * scale;
      canvas.height = height * scale;
      context.scale(scale, scale);
      drawn = [];
      if (plane !== "all") drawView(state.scene.views[Number(plane)], 0, 0, width, height);
      else state.scene.views.forEach((view, i) => drawView(view, (i % 2) * width / 2, Math.floor(i / 2) * height / 2, width / 2, height / 2));
      const at = [0, 1, 2].reduce((sum, axis) => sum + indexOf(axis) * strides[axis], 0);
      moved(null, layer.low + ((levels[at] - 1) / 254) * (layer.high - layer.low), null);
    }
    function point(event) {
      const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
      const hit = drawn.find(({ x, y, w, h }) => px >= x && px <= x + w && py >= y && py <= y + h);
      if (!hit) return;
      const next = [...place];
      for (const [axis, share, turned] of [[hit.view.columns, (px - hit.x) / hit.w, hit.view.turned[1]], [hit.view.rows, (py - hit.y) / hit.h, hit.view.turned[0]]]) {
        const index = turned ? 1 - share : share;
        next[worldOf(axis)] = rises(axis) ? index : 1 - index;
      }
      moved(next);
    }
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); point(event); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
    const watch = new ResizeObserver(draw);
    watch.observe(canvas);
    return {
      show: (chosen) => { plane = chosen; draw(); },
      move: (to) => { place = to; draw(); },
      smooth: (on) => { smooth = on; draw(); },
      close: () => watch.disconnect(),
    };
  }

  // --- All panels together ---------------------------------------------------------------------------------------
  let panels = new Map(), busy = false;
  function letter(figure) {
    const view = state.plane === "all" ? null : state.scene.views[Number(state.plane)];
    figure.querySelectorAll("b").forEach((side, i) => { side.textContent = view?.ends?.[i] ?? ""; });
  }
  function frame(layer) {
    const figure = find("panel").content.cloneNode(true).firstElementChild;
    figure.querySelector("canvas").setAttribute("aria-label", layer.label);
    figure.querySelector("strong").textContent = layer.label;
    find("panels").append(figure);
    return figure;
  }
  async function open(layer) {
    const figure = frame(layer), output = figure.querySelector("output");
    const moved = (place, value, mm) => {
      if (value !== undefined && Number.isFinite(value)) output.textContent = short(value);
      if (place) moveTo(place, layer.key, mm);
    };
    const panel = await (modern ? niivuePanel : slicePanel)(layer, figure.querySelector("canvas"), moved);
    panels.set(layer.key, { ...panel, figure });
    panel.show(state.plane);
    letter(figure);
    panel.smooth(state.smooth);
  }
  function moveTo(place, from, mm) {
    if (busy) return;
    busy = true;
    state.place = place.map((share) => Math.min(Math.max(share, 0), 1));
    panels.forEach((panel, key) => { if (key !== from || !modern) panel.move([...state.place]); });
    viewer.querySelectorAll("input[type=range]").forEach((slider, axis) => { slider.value = Math.round(1000 * state.place[axis]); });
    if (mm) find("where").textContent = [...mm].slice(0, 3).map((value, axis) => `${"RAS"[axis]} ${value.toFixed(1)}`).join(", ") + " mm";
    busy = false;
  }
  async function reopen() {
    panels.forEach((panel) => panel.close());
    panels = new Map();
    find("panels").replaceChildren();
    find("note").textContent = state.scene.note;
    for (const layer of data.layers) if (state.wanted.has(layer.key)) await open(layer);
    moveTo(state.place);
    viewer.dataset.ready = modern ? "niivue" : "slices";
  }
  function choices(name, chosen) {
    const buttons = [...find(name).querySelectorAll("button")];
    buttons.forEach((button) => button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", other === button));
      chosen(button.value);
    }));
  }
  choices("plane", (value) => { state.plane = value; panels.forEach((panel) => { panel.show(value); letter(panel.figure); }); });
  if (find("scene")) choices("scene", (value) => { state.scene = data.scenes.find((scene) => scene.key === value); reopen(); });
  find("smooth").addEventListener("change", (event) => { state.smooth = event.target.checked; panels.forEach((panel) => panel.smooth(state.smooth)); });
  viewer.querySelectorAll("[data-layer]").forEach((box) => box.addEventListener("change", () => {
    state.wanted[box.checked ? "add" : "delete"](box.dataset.layer);
    reopen();
  }));
  viewer.querySelectorAll("input[type=range]").forEach((slider, axis) => slider.addEventListener("input", () => {
    const place = [...state.place];
    place[axis] = slider.value / 1000;
    moveTo(place);
  }));
  find("fallback").hidden = modern;
  reopen().catch((error) => {
    find("broken").hidden = false;
    find("broken").textContent += ` (${error.message})`;
  });
})();
