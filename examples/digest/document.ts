// What can be read off one document without a model.

export interface Entry {
  readonly path: string;
  readonly package: string;
}

export interface Document extends Entry {
  readonly title: string;
  readonly topic: string;
  readonly summary: string;
  readonly licence: string;
  readonly links: readonly string[];
  readonly words: number;
  readonly lines: number;
  readonly codeBlocks: number;
}

export const isManifest = (path: string): boolean => path.endsWith("/package.json");

export function measure(text: string): { words: number; lines: number; codeBlocks: number } {
  return {
    words: text.split(/\s+/).filter((word) => word !== "").length,
    lines: text.split("\n").length,
    codeBlocks: (text.match(/^```/gm)?.length ?? 0) >> 1,
  };
}

export function titleOf(entry: Entry, text: string): string {
  if (isManifest(entry.path)) return entry.package;
  const heading = /^#{1,2}\s+(.+)$/m.exec(text)?.[1] ?? /<h1[^>]*>([\s\S]{1,200}?)<\/h1>/i.exec(text)?.[1];
  const plain = (heading ?? entry.package)
    .replaceAll(/<[^>]*>|!?\[([^\]]*)\](\([^)]*\))?/g, "$1")
    .replaceAll(/[*_`]/g, "")
    .trim();
  return plain === "" ? entry.package : plain.slice(0, 100);
}

export function extractLinks(text: string): string[] {
  const found = new Set<string>();
  for (const [link] of text.matchAll(/https?:\/\/[^\s)\]"'<>`]{4,300}/g)) {
    found.add(link.replace(/[.,;:]+$/, ""));
    if (found.size >= 50) break;
  }
  return [...found];
}

const LICENCES: readonly (readonly [RegExp, string])[] = [
  [/\bapache[- ](license,? )?(version )?2(\.0)?\b/i, "Apache-2.0"],
  [/\bmit\b.{0,12}licen[cs]e|licen[cs]e[^\n]{0,40}\bmit\b|^\s*mit\s*$/im, "MIT"],
  [/\bisc\b.{0,12}licen[cs]e|licen[cs]e[^\n]{0,40}\bisc\b|^\s*isc\s*$/im, "ISC"],
  [/\bbsd[- ]?([23])[- ]clause\b/i, "BSD"],
  [/\bmpl[- ]2(\.0)?\b|mozilla public licen[cs]e/i, "MPL-2.0"],
];

export function extractLicence(text: string, path: string): string {
  if (isManifest(path)) {
    try {
      const { license } = JSON.parse(text) as { license?: unknown };
      if (typeof license === "string") return license;
    } catch {
      // A manifest that is no JSON is looked at like any other text.
    }
  }
  return LICENCES.find(([pattern]) => pattern.test(text))?.[1] ?? "not named";
}
