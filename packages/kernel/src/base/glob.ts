// Path globs of grants and watches: `*` within a segment, `**` over segments, `?` one character.
// Linear in the path for each pattern segment: no backtracking over `**` more than once per segment.

export type GlobMatcher = (path: string) => boolean;

/** Compiles a glob. `/a/**` matches `/a` and everything below it. */
export function compileGlob(pattern: string): GlobMatcher {
  if (pattern === "**" || pattern === "/**") return () => true;
  if (!/[*?]/.test(pattern)) return (path) => path === pattern;
  if (pattern.endsWith("/**") && !/[*?]/.test(pattern.slice(0, -3))) {
    const root = pattern.slice(0, -3);
    return (path) => path === root || (path.startsWith(root) && path.charCodeAt(root.length) === 47);
  }
  const wanted = pattern.split("/");
  return (path) => matchSegments(wanted, path.split("/"));
}

/** Whether a glob could match something below a directory. */
export function compileGlobBelow(pattern: string): GlobMatcher {
  const wanted = pattern.split("/");
  return (directory) => {
    const names = directory === "/" ? [""] : directory.split("/");
    for (const [at, name] of names.entries()) {
      const want = wanted[at];
      if (want === "**") return true;
      if (want === undefined || !matchName(want, name)) return false;
    }
    return wanted.length > names.length;
  };
}

/** Greedy matching with one remembered `**`, as in glob(7): at most pattern × path steps. */
function matchSegments(pattern: readonly string[], path: readonly string[]): boolean {
  let p = 0;
  let s = 0;
  let starAt = -1;
  let starPath = 0;
  while (s < path.length) {
    const want = pattern[p];
    if (want === "**") {
      starAt = p++;
      starPath = s;
    } else if (want !== undefined && matchName(want, path[s] ?? "")) {
      p++;
      s++;
    } else if (starAt >= 0) {
      p = starAt + 1;
      s = ++starPath;
    } else {
      return false;
    }
  }
  while (pattern[p] === "**") p++;
  return p === pattern.length;
}

function matchName(pattern: string, name: string): boolean {
  let p = 0;
  let s = 0;
  let starAt = -1;
  let starName = 0;
  while (s < name.length) {
    const want = pattern[p];
    if (want === "*") {
      starAt = p++;
      starName = s;
    } else if (want !== undefined && (want === "?" || want === name[s])) {
      p++;
      s++;
    } else if (starAt >= 0) {
      p = starAt + 1;
      s = ++starName;
    } else {
      return false;
    }
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}
