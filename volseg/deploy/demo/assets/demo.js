"use strict";
(() => {
  // The viewer's library is asked for at its first use. Gradio writes the page anew as it likes: look for new places.
  const at = (path) => new URL(path, document.baseURI);
  let library = null;
  const load = () => {
    library = library || new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = at("viewer/niivue.umd.js");
      script.onload = () => resolve(window.niivue);
      script.onerror = () => reject(new Error("its library cannot be read"));
      document.head.append(script);
    });
    return library;
  };
  const volumes = async (mount) => {
    const answer = await fetch(at(mount.dataset.file));
    if (!answer.ok) throw new Error("its volumes are no longer kept; segment again");
    return answer.json();
  };
  const attach = () => document.querySelectorAll(".viewer:empty").forEach((mount) => {
    window.volsegViewer(mount, () => Promise.all([load(), volumes(mount)]));
  });
  new MutationObserver(attach).observe(document.documentElement, { childList: true, subtree: true });
})();
