// Which view is shown: what stands behind the # of the address.

/** "#/job/abc" as {view: "job", id: "abc"}. */
export function parsed(hash) {
  const [view, ...rest] = hash.replace(/^#\/?/, "").split("/");
  let id = rest.join("/");
  try {
    id = decodeURIComponent(id);
  } catch {
    // as it is written
  }
  return { view: view || "jobs", id };
}

/** The address of a view. */
export function address(view, id = "") {
  return id ? `#/${view}/${encodeURIComponent(id)}` : `#/${view}`;
}
