// The login page follows the light or dark that was chosen in the studio, else that of the system. No module: it runs before anything is
// painted, so that the dark never flashes light.
{
  const chosen = localStorage.getItem("ranking-studio.theme");
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.body.classList.toggle("dark", dark);
}
