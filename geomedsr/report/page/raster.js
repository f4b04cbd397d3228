// Two layers of a raster at one place: swiped, side by side, or one alone. Levels 1 to 255 are values, 0 is invalid.
"use strict";
(() => {
  const viewer = document.getElementById("viewer");
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const find = (name) => viewer.querySelector(`[data-part="${name}"]`);
  const stage = find("stage"), canvas = find("canvas"), handle = find("handle");
  const layerOf = (key) => data.layers.find((layer) => layer.key === key);
  const INVALID = [58, 40, 70];
  const RAMPS = {
    signed: ["2166ac", "92c5de", "f7f7f7", "f4a582", "b2182b"],
    map: ["000004", "57106e", "bc3754", "f98e09", "fcffa4"],
  };
  const MOST = 64;
  const state = {
    scene: data.scenes[0], mode: "swipe", left: "before", right: "after", bands: data.shown,
    smooth: false, split: 0.5, zoom: 1, x: 0.5, y: 0.5,
  };

  // --- From levels to pixels -------------------------------------------------------------------------------------
  const decoded = new Map();
  async function levelsOf(scene, key) {
    const name = `${scene.key} ${key}`;
    if (!decoded.has(name)) decoded.set(name, Promise.all(scene.layers[key].planes.map(decode)));
    return decoded.get(name);
  }
  async function decode(source) {
    const image = new Image();
    image.src = source;
    await image.decode();
    const scratch = new OffscreenCanvas(image.width, image.height).getContext("2d", { willReadFrequently: true });
    scratch.drawImage(image, 0, 0);
    const pixels = scratch.getImageData(0, 0, image.width, image.height).data;
    return { width: image.width, height: image.height, levels: Float32Array.from({ length: pixels.length / 4 }, (_, i) => pixels[4 * i]) };
  }

  // Cubic interpolation (Keys 1981, a = -1/2), one axis after the other; an invalid neighbour makes a voxel invalid.
  const weight = (t) => ((t = Math.abs(t)) < 1 ? 1.5 * t ** 3 - 2.5 * t ** 2 + 1 : t < 2 ? -0.5 * t ** 3 + 2.5 * t ** 2 - 4 * t + 2 : 0);
  function finer(plane, down, across) {
    const along = (levels, count, length, stride, step, times) => {
      const out = new Float32Array(levels.length * times);
      for (let line = 0; line < count; line++) for (let i = 0; i < length * times; i++) {
        const place = (i + 0.5) / times - 0.5, first = Math.floor(place) - 1;
        let sum = 0, valid = true;
        for (let k = first; k < first + 4; k++) {
          const level = levels[line * stride + Math.min(Math.max(k, 0), length - 1) * step], w = weight(place - k);
          valid &&= level > 0 || w === 0;
          sum += w * level;
        }
        out[step === 1 ? line * length * times + i : i * count + line] = valid ? Math.min(Math.max(sum, 1), 255) : 0;
      }
      return out;
    };
    const wide = along(plane.levels, plane.height, plane.width, plane.width, 1, across);
    const width = plane.width * across;
    return { width, height: plane.height * down, levels: along(wide, width, plane.height, 1, width, down) };
  }

  const ramps = Object.fromEntries(Object.entries(RAMPS).map(([kind, stops]) => {
    const colours = stops.map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
    return [kind, Array.from({ length: 256 }, (_, level) => {
      const place = (Math.max(level - 1, 0) / 254) * (colours.length - 1), i = Math.min(Math.floor(place), colours.length - 2);
      return colours[i].map((a, c) => Math.round(a + (place - i) * (colours[i + 1][c] - a)));
    })];
  }));

  const composed = new Map();
  async function picture(scene, key) {
    const smooth = state.smooth && key === "before";
    const name = [scene.key, key, state.bands.join(), smooth].join(" ");
    if (!composed.has(name)) composed.set(name, compose(scene, key, smooth));
    return composed.get(name);
  }
  async function compose(scene, key, smooth) {
    const all = await levelsOf(scene, key), kind = layerOf(key).kind;
    let planes = all.length > 1 ? state.bands.map((i) => all[i]) : [all[0]];
    if (smooth) planes = planes.map((plane) => finer(plane, ...scene.factor));
    const { width, height } = planes[0], image = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      const levels = planes.map((plane) => plane.levels[i]);
      const mean = levels.reduce((a, b) => a + b, 0) / levels.length;
      const colour = levels.some((level) => level === 0) ? INVALID
        : kind !== "image" ? ramps[kind][Math.round(mean)]
        : [0, 1, 2].map((c) => ((levels[levels.length > 1 ? c : 0] - 1) / 254) * 255);
      image.data.set([...colour, 255], 4 * i);
    }
    const surface = new OffscreenCanvas(width, height);
    surface.getContext("2d").putImageData(image, 0, 0);
    return surface;
  }

  // --- Drawing ---------------------------------------------------------------------------------------------------
  const beside = () => state.mode === "beside";
  const aspect = (scene) => (scene.size[1] * data.spacing[1]) / (scene.size[0] * data.spacing[0]);
  function panes() {
    const width = stage.clientWidth, height = stage.clientHeight;
    if (!beside()) return [{ x: 0, width, height }];
    return [{ x: 0, width: width / 2 - 2, height }, { x: width / 2 + 2, width: width / 2 - 2, height }];
  }
  function placed(pane) {
    const ratio = aspect(state.scene), fit = Math.min(pane.width, pane.height * ratio) * state.zoom;
    return { x: pane.x + pane.width / 2 - state.x * fit, y: pane.height / 2 - (state.y * fit) / ratio, width: fit, height: fit / ratio };
  }
  let turn = 0;
  async function draw() {
    const mine = ++turn;
    const keys = state.mode === "difference" ? ["difference"] : [state.left, state.right];
    const pictures = await Promise.all(keys.map((key) => picture(state.scene, key)));
    if (mine !== turn) return;
    const scale = devicePixelRatio || 1, context = canvas.getContext("2d");
    canvas.width = Math.round(stage.clientWidth * scale);
    canvas.height = Math.round(stage.clientHeight * scale);
    context.scale(scale, scale);
    context.imageSmoothingEnabled = false;
    const split = stage.clientWidth * state.split, all = panes();
    keys.forEach((key, i) => {
      const pane = all[Math.min(i, all.length - 1)];
      const clip = beside() || keys.length === 1 ? [pane.x, pane.width] : i ? [split, stage.clientWidth - split] : [0, split];
      const at = placed(pane), span = state.scene.layers[key].span;
      context.save();
      context.beginPath();
      context.rect(clip[0], 0, clip[1], stage.clientHeight);
      context.clip();
      context.drawImage(pictures[i], at.x, at.y, at.width * span[1], at.height * span[0]);
      context.restore();
    });
    drawScale(context, placed(all[0]).width / (state.scene.size[1] * data.spacing[1]));
    tell(keys);
    viewer.dataset.drawn = turn;
  }
  function drawScale(context, pixels) {
    if (!data.units) return;
    const most = 130 / pixels, power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].find((n) => n * power <= most) * power, y = stage.clientHeight - 16;
    context.fillStyle = "rgb(10 12 14 / 70%)";
    context.fillRect(10, y - 24, length * pixels + 20, 32);
    context.fillStyle = "#fff";
    context.fillRect(20, y - 2, length * pixels, 3);
    context.font = "12px system-ui, sans-serif";
    context.fillText(`${Number(length.toPrecision(3))} ${data.units}`, 20, y - 8);
  }
  function tell(keys) {
    const swipe = state.mode === "swipe";
    handle.hidden = !swipe;
    handle.style.left = `${100 * state.split}%`;
    const percent = Math.round(100 * state.split);
    handle.setAttribute("aria-valuenow", percent);
    handle.setAttribute("aria-valuetext", `${percent} % ${layerOf(state.left).label}, ${100 - percent} % ${layerOf(state.right).label}`);
    find("left").textContent = layerOf(keys[0]).label + (keys[0] === "before" ? (state.smooth ? " (cubic)" : "") : "");
    find("right").textContent = keys.length > 1 ? layerOf(keys[1]).label : "";
    find("right").hidden = keys.length < 2;
    find("note").textContent = state.scene.note;
    find("zoom").textContent = `${Math.round(100 * state.zoom)} %`;
    const coloured = keys.map(layerOf).find((layer) => layer.kind !== "image");
    const legend = find("legend");
    legend.hidden = !coloured;
    if (coloured) {
      legend.querySelector("i").className = coloured.kind;
      const short = (value) => Number(value.toPrecision(3)).toString();
      legend.querySelector("[data-end=low]").textContent = short(coloured.low);
      legend.querySelector("[data-end=high]").textContent = `${short(coloured.high)} ${coloured.label}`;
    }
    stage.style.touchAction = state.zoom > 1 ? "none" : "pan-y";
  }
  // The stage is as wide as there is room for, but no higher than the window lets the eye take in.
  function shape() {
    const ratio = aspect(state.scene) * (beside() ? 2 : 1), room = stage.parentElement.clientWidth - 28;
    const height = Math.min(Math.max(220, room / ratio), Math.max(320, innerHeight * 0.8));
    stage.style.height = `${Math.round(height)}px`;
    stage.style.width = `${Math.round(Math.min(room, Math.max(height * ratio, Math.min(room, 420))))}px`;
    draw();
  }

  // --- Moving ----------------------------------------------------------------------------------------------------
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  function zoomTo(zoom, at) {
    const pane = panes().find((one) => !at || at.x <= one.x + one.width) || panes()[0];
    const before = placed(pane), point = at || { x: pane.x + pane.width / 2, y: pane.height / 2 };
    const place = { x: (point.x - before.x) / before.width, y: (point.y - before.y) / before.height };
    state.zoom = clamp(zoom, 1, MOST);
    const after = placed(pane);
    moveBy(place.x - (point.x - after.x) / after.width, place.y - (point.y - after.y) / after.height);
  }
  function moveBy(x, y) {
    const at = placed(panes()[0]), pane = panes()[0];
    const room = [pane.width / at.width / 2, pane.height / at.height / 2].map((half) => Math.min(half, 0.5));
    state.x = clamp(state.x + x, room[0], 1 - room[0]);
    state.y = clamp(state.y + y, room[1], 1 - room[1]);
    draw();
  }
  function splitAt(share) {
    state.split = clamp(share, 0, 1);
    draw();
  }
  const local = (event) => {
    const box = stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  const fingers = new Map();
  let swiping = false, apart = 0;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    fingers.set(event.pointerId, local(event));
    stage.setPointerCapture(event.pointerId);
    swiping = state.mode === "swipe" && fingers.size === 1 && (event.target === handle || state.zoom === 1);
    (swiping ? handle : stage).focus({ preventScroll: true });
    if (swiping && event.target !== handle) splitAt(local(event).x / stage.clientWidth);
    apart = 0;
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const now = local(event);
    fingers.set(event.pointerId, now);
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()], distance = Math.hypot(a.x - b.x, a.y - b.y);
      if (apart) zoomTo((state.zoom * distance) / apart, { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
      apart = distance;
    } else if (swiping) {
      splitAt(now.x / stage.clientWidth);
    } else {
      const at = placed(panes()[0]);
      moveBy((last.x - now.x) / at.width, (last.y - now.y) / at.height);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => fingers.delete(event.pointerId));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomTo(state.zoom * Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), local(event));
  }, { passive: false });
  const reset = () => Object.assign(state, { zoom: 1, x: 0.5, y: 0.5 });
  stage.addEventListener("dblclick", () => { reset(); draw(); });
  stage.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.1 : 0.02, swipes = state.mode === "swipe" && (event.target === handle || state.zoom === 1);
    const pan = (x, y) => moveBy((x * 0.1) / state.zoom, (y * 0.1) / state.zoom);
    const keys = {
      "+": () => zoomTo(state.zoom * 1.5), "=": () => zoomTo(state.zoom * 1.5), "-": () => zoomTo(state.zoom / 1.5),
      0: () => { reset(); draw(); },
      ArrowLeft: () => (swipes ? splitAt(state.split - step) : pan(-1, 0)), ArrowRight: () => (swipes ? splitAt(state.split + step) : pan(1, 0)),
      ArrowUp: () => pan(0, -1), ArrowDown: () => pan(0, 1),
      PageDown: () => splitAt(state.split - 0.1), PageUp: () => splitAt(state.split + 0.1),
      Home: () => splitAt(0), End: () => splitAt(1),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  // --- Choices ---------------------------------------------------------------------------------------------------
  function choices(name, chosen) {
    const buttons = [...find(name).querySelectorAll("button")];
    buttons.forEach((button) => button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", other === button));
      chosen(button.value);
      shape();
    }));
  }
  choices("mode", (value) => { state.mode = value; });
  if (find("scene")) choices("scene", (value) => { state.scene = data.scenes.find((scene) => scene.key === value); reset(); });
  find("bands").addEventListener("change", (event) => { state.bands = event.target.value.split(",").map(Number); draw(); });
  find("first").addEventListener("change", (event) => { state.left = event.target.value; draw(); });
  find("second").addEventListener("change", (event) => { state.right = event.target.value; draw(); });
  find("smooth").addEventListener("change", (event) => { state.smooth = event.target.checked; draw(); });
  find("in").addEventListener("click", () => zoomTo(state.zoom * 1.5));
  find("out").addEventListener("click", () => zoomTo(state.zoom / 1.5));
  find("reset").addEventListener("click", () => { reset(); draw(); });
  new ResizeObserver(() => shape()).observe(viewer);
})();
