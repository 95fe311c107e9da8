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

  // ---- a figure is one stop of the Tab key; arrow keys, Home and End lead from point to point
  for (const figure of document.querySelectorAll("svg")) {
    const points = Array.from(figure.querySelectorAll("a[tabindex]"));
    figure.addEventListener("keydown", (event) => {
      const at = points.indexOf(event.target);
      const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1 };
      const to = { ...steps, Home: 0, End: points.length - 1 }[event.key];
      if (at < 0 || points[to] === undefined) return;
      event.preventDefault();
      points[at].setAttribute("tabindex", "-1");
      points[to].setAttribute("tabindex", "0");
      points[to].focus();
    });
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
  document.querySelectorAll(".viewer").forEach((mount) => {
    window.volsegViewer(mount, () => Promise.all([load(), volumes(mount)]));
  });
})();
