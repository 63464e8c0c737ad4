// Properties of WebDAV: those that are computed, and those that clients set, which are extended attributes of the file.

import { type FileStat, type Os, isKernelError } from "@ergos/kernel";
import { type DavLock, activeLock } from "./locks.ts";
import { isCollection } from "./path.ts";
import { DAV, type PropName, asContent, dav, element, escapeXml } from "./xml.ts";

const PREFIX = "dav:";
/** `dav:{namespace}name`, as an extended attribute is called that is a property. */
export const attributeOf = ({ ns, name }: PropName): string =>
  `${PREFIX}{${ns.replace(/[%}]/g, encodeURIComponent)}}${name}`;

/** The property of an attribute that is one; attributes are also made by others, under any name. */
function propOf(attribute: string): PropName | undefined {
  const [, ns = "", name = ""] = /^dav:\{([^}]*)\}([\p{L}_][\p{L}\p{M}\p{N}._-]*)$/u.exec(attribute) ?? [];
  const space = ns.replace(/%25|%7D/g, decodeURIComponent);
  return name === "" || (space === DAV && LIVE.has(name)) ? undefined : { ns: space, name };
}

/** Changes whenever content does. */
export const etagOf = ({ inode, generation, version, size, modified }: FileStat): string =>
  inode === undefined
    ? `"m${generation === 0 ? (modified ?? 0) : generation}-${size ?? 0}"`
    : `"${inode}-${generation}-${version}"`;

const SUPPORTED = dav("lockentry", dav("lockscope", dav("exclusive")) + dav("locktype", dav("write"))).concat(
  dav("lockentry", dav("lockscope", dav("shared")) + dav("locktype", dav("write"))),
);

/** Names of properties that are computed; nobody sets them. */
export const LIVE: ReadonlySet<string> = new Set([
  "creationdate",
  "displayname",
  "getcontentlength",
  "getcontenttype",
  "getetag",
  "getlastmodified",
  "lockdiscovery",
  "resourcetype",
  "supportedlock",
]);

export interface Shown {
  readonly name: PropName;
  readonly xml: string;
}

/** All properties of what is at a path. */
export async function propertiesOf(
  os: Pick<Os, "call">,
  stat: FileStat,
  locks: readonly DavLock[],
  href: (path: string) => string,
): Promise<readonly Shown[]> {
  const live: Readonly<Record<string, string | undefined>> = {
    creationdate: stat.created === undefined ? undefined : new Date(stat.created).toISOString(),
    displayname: escapeXml(stat.path.slice(stat.path.lastIndexOf("/") + 1)),
    getcontentlength: isCollection(stat) ? undefined : String(stat.size ?? 0),
    getcontenttype: isCollection(stat) ? undefined : escapeXml(stat.mime ?? "application/octet-stream"),
    getetag: isCollection(stat) ? undefined : escapeXml(etagOf(stat)),
    getlastmodified: new Date(stat.modified ?? 0).toUTCString(),
    lockdiscovery: locks.map((lock) => activeLock(lock, href)).join(""),
    resourcetype: isCollection(stat) ? dav("collection") : "",
    supportedlock: SUPPORTED,
  };
  const shown = Object.entries(live).flatMap(([name, content]): Shown[] =>
    content === undefined ? [] : [{ name: { ns: DAV, name }, xml: dav(name, content) }],
  );
  for (const [attribute, content] of Object.entries(await extendedOf(os, stat.path))) {
    const name = propOf(attribute);
    if (name !== undefined) shown.push({ name, xml: element(name, asContent(content)) });
  }
  return shown;
}

async function extendedOf(os: Pick<Os, "call">, path: string): Promise<Readonly<Record<string, string>>> {
  try {
    return await os.call("getxattr", { path });
  } catch (error) {
    // What is mounted, or computed, has none.
    if (isKernelError(error)) return {};
    throw error;
  }
}
