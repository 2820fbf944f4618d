// A sandboxed frame, as MLflow's artifact viewer is, opens nothing that lies beside the page: a click would empty it.
if (window.self !== window.top)
  for (const link of document.querySelectorAll('a:not([href^="#"])'))
    link.replaceWith(`${link.textContent}: ${link.getAttribute("href")}, beside this page`);
