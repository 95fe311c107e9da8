"use strict";
// The viewer of one case: slices and 3D of what `volseg.pictures.viewer` packs, by NiiVue.
// volsegViewer(element, load) puts a button there; `load` gives a promise of [NiiVue's library, the data].
window.volsegViewer = (() => {
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

  const show = async (mount, niivue, data) => {
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
    const names = ["image", "reference", "prediction", "difference"].filter((name) => data[name]);
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
      choice("Show", `show-${group}`, names.map((name) => [name, name]), seen,
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

  return (mount, load) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Open in 3D";
    button.addEventListener("click", async () => {
      button.disabled = true;
      button.textContent = "Loading…";
      try {
        await show(mount, ...(await load()));
      } catch (error) {
        const text = document.createElement("p");
        text.className = "problem";
        text.textContent = `The viewer cannot be shown: ${error.message}. It needs WebGL 2.`;
        mount.replaceChildren(text);
        mount.dataset.state = "failed";
      }
    });
    mount.append(button);
  };
})();
