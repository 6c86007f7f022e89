// Asking the studio's own routes from a page. An answer that is an error becomes an Error with its one line.

/** @returns {Promise<object>} the JSON that the route answers with */
export async function ask(path, body = undefined) {
  const options = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The studio does not answer. It may have been closed: start it again.");
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.error ?? `The studio answered ${answer.status}.`);
  return found;
}

export async function askText(path) {
  const answer = await fetch(path);
  return answer.ok ? answer.text() : "";
}
