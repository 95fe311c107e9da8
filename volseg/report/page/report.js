"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // ---- the table of cases: sort, filter, all columns
  const table = byId("case-table");
  if (table) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const heads = Array.from(table.tHead.rows[0].cells);
    const order = new Intl.Collator("en", { numeric: true });
    const sortBy = (column) => {
      const head = heads[column];
      const numeric = head.classList.contains("num");
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => {
        const cell = row.cells[column];
        if (!numeric) return cell.textContent;
        return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
      };
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === null || y === null) return (x === null) - (y === null); // the undefined stay below
        const step = numeric ? x - y : order.compare(x, y);
        return up ? step : -step;
      });
      body.append(...rows);
    };
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(column)));

    const find = byId("find"), region = byId("region"), all = byId("all-columns"), shown = byId("shown");
    const filter = () => {
      const words = find.value.toLowerCase();
      let count = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !text.includes(words) || (region.value !== "" && row.dataset.region !== region.value);
        count += row.hidden ? 0 : 1;
      }
      shown.textContent = `${count} of ${rows.length} rows`;
    };
    find.addEventListener("input", filter);
    region.addEventListener("change", filter);
    if (all) all.addEventListener("change", () => table.classList.toggle("all", all.checked));
    filter();
    document.querySelectorAll(".ghost").forEach((element) => element.classList.remove("ghost"));
  }

  // ---- a link to a case opens it; printing opens every case
  const openTarget = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && byId(id);
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  window.addEventListener("hashchange", openTarget);
  openTarget();
  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = Array.from(document.querySelectorAll("details.case:not([open])"));
    closed.forEach((element) => { element.open = true; });
  });
  window.addEventListener("afterprint", () => closed.forEach((element) => { element.open = false; }));

  // ---- the viewer: its library and its volumes are read when the reader asks for them
  const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  let library = null;
  const load = () => {
    library = library || (async () => {
      const packed = new Blob([bytes(byId("niivue").textContent.trim())]);
      const source = await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();
      const script = document.createElement("script");
      script.textContent = source;
      document.head.append(script);
      if (!window.niivue) throw new Error("the viewer's library did not start");
      return window.niivue;
    })();
    return library;
  };
  window.volsegVolumes = {};
  const volumes = (mount) => new Promise((resolve, reject) => {
    const number = mount.dataset.volumes;
    const inside = byId(`volumes-${number}`);
    if (inside) { resolve(JSON.parse(inside.textContent)); return; }
    const script = document.createElement("script");
    script.src = mount.dataset.file;
    script.onload = () => resolve(window.volsegVolumes[number]);
    script.onerror = () => reject(new Error(`${mount.dataset.file} cannot be read: keep the folder report_data beside this page`));
    document.head.append(script);
  });
  const choice = (legend, name, options, chosen, change) => {
    const set = document.createElement("fieldset");
    const title = document.createElement("legend");
    title.textContent = legend;
    set.append(title);
    options.forEach(([value, text]) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", name, value, checked: value === chosen });
      input.addEventListener("change", () => change(value));
      label.append(input, text);
      set.append(label);
    });
    return set;
  };
  const legendOf = (mount, table) => {
    const legend = mount.querySelector(".legend");
    legend.replaceChildren();
    table.I.forEach((value, i) => {
      if (!table.labels[i]) return;
      const entry = document.createElement("span");
      const square = document.createElement("span");
      square.className = "swatch";
      square.style.background = `rgb(${table.R[i]}, ${table.G[i]}, ${table.B[i]})`;
      entry.append(square, table.labels[i].replaceAll("_", " "));
      legend.append(entry);
    });
  };

  const show = async (mount) => {
    const [niivue, data] = await Promise.all([load(), volumes(mount)]);
    const canvas = document.createElement("canvas");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Slices and 3D view of ${mount.dataset.key}`);
    const box = document.createElement("div");
    box.className = "screen";
    box.append(canvas);
    const tools = document.createElement("div");
    tools.className = "tools";
    const legend = document.createElement("div");
    legend.className = "legend";
    const position = document.createElement("div");
    position.className = "note";
    const help = "Click a slice to move the crosshair, turn the wheel to leaf through, drag the 3D view to turn it.";
    position.textContent = help;
    mount.replaceChildren(tools, box, legend, position);

    const nv = new niivue.Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.6], crosshairWidth: data.extent / 240, crosshairWidthUnit: "mm", show3Dcrosshair: true,
      isRadiologicalConvention: true, sagittalNoseLeft: true, isColorbar: false, dragAndDropEnabled: false,
      multiplanarShowRender: 1, multiplanarLayout: 2, fontMinPx: 15, loadingText: "", logLevel: "error",
    });
    nv.onLocationChange = (place) => {
      const mm = place && place.mm ? Array.from(place.mm).slice(0, 3) : null;
      if (mm) position.textContent = `Crosshair at R ${mm[0].toFixed(1)}, A ${mm[1].toFixed(1)}, S ${mm[2].toFixed(1)} mm. ${help}`;
    };
    await nv.attachToCanvas(canvas);
    const names = ["image", "reference", "prediction", "difference"];
    for (const name of names) {
      const volume = await niivue.NVImage.loadFromBase64({ base64: data[name], name: `${name}.nii.gz` });
      if (name !== "image") {
        volume.setColormapLabel(name === "difference" ? data.differences : data.regions);
        volume.opacity = 0;
      } else {
        Object.assign(volume, { cal_min: 0, cal_max: 255 });
      }
      nv.addVolume(volume);
    }
    let seen = "prediction", strength = 0.5;
    const paint = () => {
      names.forEach((name, i) => { if (i) nv.setOpacity(i, name === seen ? strength : 0); });
      legendOf(mount, seen === "difference" ? data.differences : data.regions);
      legend.hidden = seen === "image";
    };
    const group = mount.dataset.volumes;
    tools.append(
      choice("Show", `show-${group}`, [["image", "image"], ["reference", "reference"], ["prediction", "prediction"], ["difference", "difference"]], seen,
        (value) => { seen = value; paint(); }),
      choice("View", `view-${group}`, [["3", "all"], ["0", "axial"], ["1", "coronal"], ["2", "sagittal"], ["4", "3D"]], "3",
        (value) => nv.setSliceType(Number(value))),
    );
    const label = document.createElement("label");
    const range = document.createElement("input");
    Object.assign(range, { type: "range", min: "0.1", max: "1", step: "0.1", value: String(strength) });
    range.addEventListener("input", () => { strength = Number(range.value); paint(); });
    label.append("Opacity", range);
    tools.append(label);
    nv.setSliceType(3);
    nv.setInterpolation(true);
    paint();
    if (data.centre) nv.scene.crosshairPos = nv.mm2frac(data.centre);
    nv.updateGLVolume();
    nv.drawScene();
    mount.viewer = nv;
    mount.dataset.state = "ready";
  };

  document.querySelectorAll(".viewer").forEach((mount) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Open in 3D";
    button.addEventListener("click", async () => {
      button.disabled = true;
      button.textContent = "Loading…";
      try {
        await show(mount);
      } catch (error) {
        const text = document.createElement("p");
        text.className = "problem";
        text.textContent = `The viewer cannot be shown: ${error.message}. It needs WebGL 2.`;
        mount.replaceChildren(text);
        mount.dataset.state = "failed";
      }
    });
    mount.append(button);
  });
})();
