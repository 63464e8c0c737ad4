// WebDAV (RFC 4918, classes 1 and 2) over the files of a process: any desktop mounts the namespace, with the rights of who
// logs in. Its locks are locks of the kernel, so that agents and people see each other's.

import { type DirEntry, type FileStat, LIMITS, type Login, type Os, isKernelError } from "@ergos/kernel";
import { CHUNK, chunksOf, isLater, matchesEtag, rangeOf, typeOf } from "./http-content.ts";
import { type ConditionList, parseIf } from "./if-header.ts";
import { Logins } from "./logins.ts";
import { DavLocks, type DavLock, activeLock, timeoutOf } from "./locks.ts";
import { isCollection, join, parentOf } from "./path.ts";
import { nameBeside, transfer } from "./transfer.ts";
import { LIVE, attributeOf, etagOf, propertiesOf } from "./properties.ts";
import {
  DAV,
  type PropName,
  childNamed,
  childrenOf,
  dav,
  document,
  element,
  escapeXml,
  innerXml,
  isDav,
  nameOf,
  parseXml,
} from "./xml.ts";

export interface DavOptions {
  /** Where the tree begins in the address (default `/dav`). */
  readonly prefix?: string;
  /** The calls of whoever has a pass; refuses what is none. */
  readonly login: (pass: string) => Promise<Login>;
}

const METHODS = "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, COPY, MOVE, PROPFIND, PROPPATCH, LOCK, UNLOCK";
/** Bytes of a request that describes something. */
const DOCUMENT_MAX = 1024 * 1024;
const PAGE = LIMITS.pageMax;
/** What a file is called while its content comes, and after how long nobody writes to it any more. */
const UPLOAD = "upload";
const LEFT_MS = 3_600_000;
const SWEPT_MAX = 16;
/** Looks at a file that is written all the time. */
const TRIES = 8;
/** Entries of one answer. */
const ENTRIES_MAX = 100_000;

const STATUS: Readonly<Record<string, number>> = {
  ENOENT: 404,
  EACCES: 403,
  EPERM: 403,
  EROFS: 403,
  EEXIST: 405,
  EISDIR: 405,
  ENOTDIR: 409,
  ENOTEMPTY: 409,
  EBUSY: 409,
  ELOOP: 508,
  EAGAIN: 423,
  ESTALE: 412,
  ENAMETOOLONG: 414,
  EINVAL: 400,
  E2BIG: 413,
  EFBIG: 413,
  EDQUOT: 507,
  ENOSPC: 507,
  ENOTSUP: 501,
  EXDEV: 502,
};

/** An answer that ends a request. */
class Answer extends Error {
  readonly status: number;
  constructor(status: number, message = "") {
    super(message);
    this.status = status;
  }
}

/** Makes a handler of requests, for any server that has `(Request) => Response`. */
export function createDav({ prefix = "/dav", login }: DavOptions): (request: Request) => Promise<Response> {
  let requests = 0;
  const logins = new Logins((pass) => login(pass).catch(refuse));
  return async (request) => {
    try {
      const pass = passOf(request.headers.get("authorization")) ?? refuse();
      return await logins.use(pass, ({ os }) => new DavRequest(request, os, prefix, ++requests).run());
    } catch (error) {
      if (error instanceof Answer)
        return new Response(error.message === "" ? null : `${error.message}\n`, {
          status: error.status,
          headers: error.status === 401 ? { "www-authenticate": 'Basic realm="ErgOS", charset="UTF-8"' } : {},
        });
      if (isKernelError(error)) return new Response(`${error.message}\n`, { status: STATUS[error.code] ?? 500 });
      throw error;
    }
  };
}

const refuseWith = (status: number, message: string): never => {
  throw new Answer(status, message);
};

const refuse = (): never => {
  throw new Answer(401, "log in with any name, and a pass as the password; `ergos pass` makes one");
};

/** The pass of a request: the password of basic authentication, or a bearer. */
function passOf(header: string | null): string | undefined {
  const [scheme = "", value = ""] = (header ?? "").split(/\s+/, 2);
  if (/^bearer$/i.test(scheme)) return value;
  if (!/^basic$/i.test(scheme)) return undefined;
  const text = Buffer.from(value, "base64").toString();
  // Blanks around a pass are none of it: with them it would be another one each time.
  return text.slice(text.indexOf(":") + 1).trim();
}

class DavRequest {
  readonly #request: Request;
  readonly #os: Os;
  readonly #prefix: string;
  /** No other request of this host has it. */
  readonly #number: number;
  /** Canonical, but for a link that is its last name where that alone is meant. */
  #path: string;
  readonly #locks: DavLocks;
  /** Tokens of locks that the client says it knows of. */
  readonly #tokens = new Set<string>();
  /** The request wants what it is about as it was found. */
  #isMatched = false;

  constructor(request: Request, os: Os, prefix: string, number: number) {
    this.#number = number;
    this.#request = request;
    this.#os = os;
    this.#prefix = prefix;
    this.#path = this.#pathOf(request.url);
    this.#locks = new DavLocks(os);
  }

  async run(): Promise<Response> {
    this.#path = await this.#canonical(this.#path, !["DELETE", "MOVE"].includes(this.#request.method));
    await this.#readConditions();
    switch (this.#request.method) {
      case "OPTIONS":
        return new Response(null, { headers: { allow: METHODS, dav: "1, 2", "ms-author-via": "DAV" } });
      case "GET":
      case "HEAD":
        return this.#get();
      case "PUT":
        return this.#put();
      case "DELETE":
        return this.#delete();
      case "MKCOL":
        return this.#makeCollection();
      case "COPY":
      case "MOVE":
        return this.#transfer(this.#request.method === "MOVE");
      case "PROPFIND":
        return this.#find();
      case "PROPPATCH":
        return this.#patch();
      case "LOCK":
        return this.#lock();
      case "UNLOCK":
        return this.#unlock();
      default:
        return new Response(null, { status: 405, headers: { allow: METHODS } });
    }
  }

  async #get(tries = 1): Promise<Response> {
    const stat = await this.#os.fs.stat(this.#path);
    const isHead = this.#request.method === "HEAD";
    if (isCollection(stat)) {
      const names = isHead
        ? []
        : (await this.#os.fs.readdir(stat.path, { limit: PAGE })).map(({ name, type }) =>
            type === "directory" ? `${name}/` : name,
          );
      return new Response(isHead ? null : `${names.join("\n")}\n`, {
        headers: { "content-type": "text/plain; charset=utf-8" },
      });
    }
    // What is computed has no size before it is read.
    const whole = stat.size === undefined ? await this.#os.fs.read(stat.path) : undefined;
    const size = stat.size ?? whole?.length ?? 0;
    const headers: Record<string, string> = {
      etag: etagOf(stat),
      "last-modified": new Date(stat.modified ?? 0).toUTCString(),
      "content-type": typeOf(stat),
      "accept-ranges": "bytes",
    };
    const none = this.#request.headers.get("if-none-match");
    const since = this.#request.headers.get("if-modified-since");
    const isKnown = none === null ? isLater(stat, since) === false : matchesEtag(none, etagOf(stat));
    if (isKnown) return new Response(null, { status: 304, headers });
    const only = this.#request.headers.get("if-range");
    const isSame = only === null || only === headers["etag"] || only === headers["last-modified"];
    const range = isSame ? rangeOf(this.#request.headers.get("range"), size) : undefined;
    if (range === "none") return new Response(null, { status: 416, headers: { "content-range": `bytes */${size}` } });
    const { offset, length } = range ?? { offset: 0, length: size };
    if (range !== undefined) headers["content-range"] = `bytes ${offset}-${offset + length - 1}/${size}`;
    headers["content-length"] = String(length);
    const status = range === undefined ? 200 : 206;
    if (isHead) return new Response(null, { status, headers });
    if (whole !== undefined) return new Response(whole.slice(offset, offset + length), { status, headers });
    const read = (at: number): Promise<Uint8Array<ArrayBuffer> | undefined> =>
      this.#piece(stat, { offset: at, length: Math.min(CHUNK, offset + length - at) });
    const first = await read(offset);
    // It was changed before anything of it was sent.
    if (first === undefined) return tries < TRIES ? this.#get(tries + 1) : refuseWith(503, "it changes all the time");
    let next: Uint8Array | undefined = first;
    let at = offset;
    const body = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        const bytes = next ?? (await read(at));
        next = undefined;
        if (bytes === undefined) return controller.error(new TypeError("the file was changed meanwhile"));
        at += bytes.length;
        if (bytes.length > 0) controller.enqueue(bytes);
        if (at >= offset + length) controller.close();
      },
    });
    return new Response(body, { status, headers });
  }

  /** A piece of a content; nothing when it is another one by now. */
  async #piece(
    { path, generation, size }: FileStat,
    range: { readonly offset: number; readonly length: number },
  ): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const bytes = await this.#os.fs.read(path, range);
    const now = await this.#lookUp(path);
    const isSame = now?.generation === generation && now.size === size && bytes.length === range.length;
    // What the namespace gives is in memory of its own.
    return isSame ? (bytes as Uint8Array<ArrayBuffer>) : undefined;
  }

  async #put(): Promise<Response> {
    const before = await this.#lookUp(this.#path);
    if (before !== undefined && isCollection(before)) throw new Answer(405, "a collection has no content");
    if (this.#request.headers.has("content-range")) throw new Answer(400, "Content-Range is not supported with PUT");
    await this.#assertParent(this.#path);
    await this.#assertFree(this.#path, before === undefined);
    const type = this.#request.headers.get("content-type");
    const mime = type === null ? {} : { mime: type };
    const { fs } = this.#os;
    // What was wanted of it when the request came is still so when it is written.
    const ifGeneration = this.#generationOf(before);
    const mustBeNew = this.#request.headers.get("if-none-match")?.trim() === "*";
    const only = {
      create: mustBeNew ? "must" : "maybe",
      ...(ifGeneration === undefined ? {} : { ifGeneration }),
    } as const;
    let offset = 0;
    let target = this.#path;
    try {
      for await (const bytes of chunksOf(this.#request.body)) {
        // What does not come in one piece is put in its place when it is whole.
        if (offset === 0 && bytes.length === CHUNK) target = await this.#upload(before);
        const isAside = target !== this.#path;
        if (offset === 0 && !isAside) await this.#assertStill(before);
        await fs.write(target, bytes, offset === 0 ? { ...mime, ...(isAside ? {} : only) } : { offset });
        offset += bytes.length;
      }
      if (offset === 0 || target !== this.#path) await this.#assertStill(before);
      if (offset === 0) await fs.write(target, new Uint8Array(), { ...mime, ...only });
      if (target !== this.#path) {
        const when = { replace: !mustBeNew, ...(ifGeneration === undefined ? {} : { ifGeneration }) };
        await fs.rename(target, this.#path, when);
      }
    } catch (error) {
      if (target !== this.#path) await fs.unlink(target).catch(() => undefined);
      if (mustBeNew && isKernelError(error) && error.code === "EEXIST")
        throw new Answer(412, "the destination exists already");
      throw error;
    }
    const stat = await fs.stat(this.#path);
    return new Response(null, { status: before === undefined ? 201 : 204, headers: { etag: etagOf(stat) } });
  }

  /** What held when the request came holds when its body has come: others may have locked it meanwhile, or changed it. */
  async #assertStill(before: FileStat | undefined): Promise<void> {
    await this.#readConditions();
    await this.#assertFree(this.#path, before === undefined);
  }

  /** The generation that was found, where the request wants that it is still so when it is done. */
  #generationOf(stat: FileStat | undefined): FileStat["generation"] | undefined {
    return this.#isMatched && stat?.type === "file" && stat.generation !== 0 ? stat.generation : undefined;
  }

  /** An empty file beside the one that will be replaced, with its properties. */
  async #upload(before: FileStat | undefined): Promise<string> {
    const { fs } = this.#os;
    await this.#sweep();
    const path = await nameBeside(fs, this.#path, UPLOAD, this.#number);
    await fs.write(path, new Uint8Array(), { create: "must" });
    if (before?.inode === undefined) return path;
    await this.#copyProperties(this.#path, path);
    const { mode, mime } = before;
    if (mode !== undefined || mime !== undefined)
      await fs.setattr(path, { ...(mode === undefined ? {} : { mode }), ...(mime === undefined ? {} : { mime }) });
    return path;
  }

  /** Removes what uploads have left beside this one whose host was killed. */
  async #sweep(): Promise<void> {
    const { fs } = this.#os;
    const folder = parentOf(this.#path);
    const some = await fs.readdir(folder, { after: `.${UPLOAD}-`, limit: SWEPT_MAX });
    for (const { name } of some.filter((entry) => entry.name.startsWith(`.${UPLOAD}-`))) {
      const left = await this.#lookUp(join(folder, name));
      if (left !== undefined && (left.modified ?? Infinity) < Date.now() - LEFT_MS)
        await fs.unlink(left.path).catch(() => undefined);
    }
  }

  async #copyProperties(from: string, to: string): Promise<void> {
    const values = await this.#os.call("getxattr", { path: from });
    if (Object.keys(values).length === 0) return;
    try {
      await this.#os.call("setxattr", { path: to, values });
    } catch (error) {
      // What is mounted has none.
      if (!isKernelError(error) || error.code !== "ENOTSUP") throw error;
    }
  }

  async #delete(): Promise<Response> {
    const url = new URL(this.#request.url);
    if (url.hash !== "") throw new Answer(400, "a fragment cannot be deleted");
    const ifGeneration = this.#generationOf(await this.#os.fs.stat(this.#path, { noFollow: true }));
    await this.#assertFree(this.#path, true, true);
    const when = { recursive: true, ...(ifGeneration === undefined ? {} : { ifGeneration }) };
    await this.#os.fs.unlink(this.#path, when);
    await this.#locks.forget(this.#path);
    return new Response(null, { status: 204 });
  }

  async #makeCollection(): Promise<Response> {
    if (this.#request.body !== null && (await this.#text()) !== "")
      throw new Answer(415, "a collection is made without content");
    if ((await this.#lookUp(this.#path)) !== undefined) throw new Answer(405, "the destination exists already");
    await this.#assertParent(this.#path);
    await this.#assertFree(this.#path, true);
    await this.#os.fs.mkdir(this.#path);
    return new Response(null, { status: 201 });
  }

  async #transfer(isMove: boolean): Promise<Response> {
    const to = await this.#canonical(this.#destination(), false);
    const depth = this.#request.headers.get("depth") ?? "infinity";
    if (depth !== "infinity" && (isMove || depth !== "0"))
      throw new Answer(400, isMove ? "the Depth of a move is infinity" : "the Depth of a copy is 0 or infinity");
    const { fs } = this.#os;
    const stat = isMove ? await fs.stat(this.#path, { noFollow: true }) : await this.#need(this.#path);
    if (to === this.#path || `${this.#path}/`.startsWith(`${to}/`))
      throw new Answer(403, "the destination is the source, or one of the collections that it is in");
    const isDeep = depth !== "0";
    if (`${to}/`.startsWith(`${this.#path}/`) && isCollection(stat) && (isMove || isDeep))
      throw new Answer(403, "a collection cannot go into itself");
    await this.#assertParent(to);
    const there = await this.#lookUp(to, true, true);
    const overwrites = this.#request.headers.get("overwrite")?.toUpperCase() !== "F";
    if (there !== undefined && !overwrites) throw new Answer(412, "the destination exists already");
    if (isMove) await this.#assertFree(this.#path, true, true);
    await this.#assertFree(to, there === undefined, true);
    const what = { stat, from: this.#path, to, there, isMove, isDeep, overwrites };
    await transfer(fs, what, this.#number).catch((error: unknown) => {
      throw isKernelError(error) && error.code === "EEXIST" ? new Answer(412, "the destination exists already") : error;
    });
    // Of a collection alone the properties go with it.
    if (!isMove && !isDeep && stat.inode !== undefined && isCollection(stat))
      await this.#copyProperties(this.#path, to);
    if (isMove) await this.#locks.forget(this.#path);
    return new Response(null, { status: there === undefined ? 201 : 204 });
  }

  /** Where something goes: in this tree, of this server. */
  #destination(): string {
    const header = this.#request.headers.get("destination");
    if (header === null) throw new Answer(400, "the Destination header is missing");
    const own = new URL(this.#request.url);
    if (!URL.canParse(header, own.href)) throw new Answer(400, "the Destination is no address");
    const url = new URL(header, own);
    if (url.host !== own.host) throw new Answer(502, "the Destination is on another server");
    return this.#pathOf(url.href);
  }

  async #find(): Promise<Response> {
    const wanted = wantedOf(await this.#xml());
    const depth = this.#request.headers.get("depth") ?? "infinity";
    if (!["0", "1", "infinity"].includes(depth)) throw new Answer(400, "the Depth of a question is 0, 1 or infinity");
    const stat = await this.#need(this.#path);
    let answers = "";
    let left = ENTRIES_MAX;
    const visit = async (found: FileStat, path: string, below: number): Promise<void> => {
      if (left-- === 0) throw new Answer(507, "there are too many entries for one answer; ask with Depth: 1");
      answers += await this.#describe({ ...found, path } as FileStat, wanted);
      if (below === 0 || !isCollection(found)) return;
      for await (const { name, type } of this.#entries(path)) {
        const at = join(path, name);
        const child = await this.#visible(at);
        // What a link leads to is told, and not gone into: it may lead round.
        if (child !== undefined) await visit(child, at, type === "link" ? 0 : below - 1);
      }
    };
    await visit(stat, this.#path, depth === "infinity" ? Number.POSITIVE_INFINITY : Number(depth));
    return multistatus(answers);
  }

  async #describe(stat: FileStat, wanted: Wanted): Promise<string> {
    const needsLocks =
      wanted.names === undefined || wanted.names.some(({ ns, name }) => ns === DAV && name === "lockdiscovery");
    const locks = needsLocks ? await this.#locks.covering(stat.path) : [];
    const all = await propertiesOf(this.#os, stat, locks, this.#href);
    const { names } = wanted;
    const found =
      names === undefined
        ? all
        : all.filter(({ name }) => names.some((one) => one.ns === name.ns && one.name === name.name));
    const missing = (names ?? []).filter(
      (name) => !found.some((one) => one.name.ns === name.ns && one.name.name === name.name),
    );
    const shown = wanted.onlyNames ? found.map(({ name }) => element(name)) : found.map(({ xml }) => xml);
    return dav(
      "response",
      dav("href", escapeXml(this.#href(stat.path, isCollection(stat)))) +
        (shown.length === 0 && missing.length > 0 ? "" : propstat(shown.join(""), "200 OK")) +
        (missing.length === 0 ? "" : propstat(missing.map((name) => element(name)).join(""), "404 Not Found")),
    );
  }

  async #patch(): Promise<Response> {
    const root = await this.#xml();
    if (root === undefined || !isDav(root, "propertyupdate")) throw new Answer(400, "a propertyupdate is wanted");
    const stat = await this.#need(this.#path);
    await this.#assertFree(this.#path, false);
    const changes: { readonly name: PropName; readonly value: string | null }[] = [];
    for (const step of childrenOf(root)) {
      const prop = childNamed(step, "prop");
      const isSet = isDav(step, "set");
      if (prop === undefined || (!isSet && !isDav(step, "remove"))) continue;
      for (const one of childrenOf(prop)) changes.push({ name: nameOf(one), value: isSet ? innerXml(one) : null });
    }
    const forbidden = changes.filter(({ name }) => name.ns === DAV && LIVE.has(name.name));
    if (forbidden.length === 0) {
      const values = Object.fromEntries(changes.map(({ name, value }) => [attributeOf(name), value]));
      await this.#os.call("setxattr", { path: stat.path, values });
    }
    const of = (which: typeof changes): string => which.map(({ name }) => element(name)).join("");
    const others = changes.filter((change) => !forbidden.includes(change));
    return multistatus(
      dav(
        "response",
        dav("href", escapeXml(this.#href(this.#path, isCollection(stat)))) +
          (forbidden.length === 0
            ? propstat(of(changes), "200 OK")
            : propstat(of(forbidden), "403 Forbidden") +
              (others.length === 0 ? "" : propstat(of(others), "424 Failed Dependency"))),
      ),
    );
  }

  async #lock(): Promise<Response> {
    const root = await this.#xml();
    const timeoutMs = timeoutOf(this.#request.headers.get("timeout"));
    if (root === undefined) {
      const lock = (await this.#locks.covering(this.#path)).find((one) => this.#knows(one));
      if (lock === undefined) throw new Answer(412, "to refresh a lock, send its token in the If header");
      await this.#locks.refresh(lock, timeoutMs);
      return this.#showLock(lock, 200);
    }
    const scope = childNamed(root, "lockscope");
    if (!isDav(root, "lockinfo") || scope === undefined || childNamed(root, "locktype") === undefined)
      throw new Answer(400, "the body must be a DAV:lockinfo element");
    const depth = this.#request.headers.get("depth") ?? "infinity";
    if (depth !== "0" && depth !== "infinity") throw new Answer(400, "the Depth of a lock is 0 or infinity");
    const before = await this.#lookUp(this.#path);
    if (before === undefined) {
      await this.#assertParent(this.#path);
      await this.#assertFree(this.#path, true);
    }
    const isShared = childNamed(scope, "shared") !== undefined;
    const blocking = (await this.#locks.covering(this.#path, depth === "infinity")).filter(
      (lock) => !isShared || !lock.isShared,
    );
    if (blocking.length > 0) throw new Answer(423, "somebody else has a lock there");
    // What is locked before it is there becomes an empty file.
    if (before === undefined) await this.#os.fs.write(this.#path, new Uint8Array(), { create: "must" });
    const owner = childNamed(root, "owner");
    const wanted = {
      isShared,
      isDeep: depth === "infinity",
      owner: owner === undefined ? "" : (owner.textContent ?? "").trim(),
      timeoutMs,
    };
    const lock = await this.#locks
      .take(this.#path, await this.#need(this.#path), wanted)
      .catch(async (error: unknown) => {
        // Somebody was faster: what was made for this lock goes with it.
        if (before === undefined) await this.#os.fs.unlink(this.#path).catch(() => undefined);
        throw error;
      });
    return this.#showLock(lock, before === undefined ? 201 : 200);
  }

  #showLock(lock: DavLock, status: number): Response {
    return new Response(document("prop", dav("lockdiscovery", activeLock(lock, this.#href))), {
      status,
      headers: { "content-type": "application/xml; charset=utf-8", "lock-token": `<${lock.token}>` },
    });
  }

  async #unlock(): Promise<Response> {
    const token = /^<(.+)>$/.exec(this.#request.headers.get("lock-token")?.trim() ?? "")?.[1];
    if (token === undefined) throw new Answer(400, "the Lock-Token header is missing");
    const lock = (await this.#locks.covering(this.#path)).find((one) => one.token === token);
    if (lock === undefined) throw new Answer(409, "there is no such lock here");
    await this.#locks.release(lock);
    return new Response(null, { status: 204 });
  }

  /** Looks at the headers that say what must hold. */
  async #readConditions(): Promise<void> {
    const { headers } = this.#request;
    const header = headers.get("if");
    if (header !== null) {
      const lists = parseIf(header);
      if (lists === undefined) throw new Answer(400, "the header If cannot be read");
      for (const { conditions } of lists)
        for (const { token, isNot } of conditions) if (token !== undefined && !isNot) this.#tokens.add(token);
      const holding: ConditionList[] = [];
      for (const list of lists) if (await this.#holds(list)) holding.push(list);
      for (const { resource, conditions } of holding) {
        const isOurs = resource === undefined || (await this.#tagged(resource)) === this.#path;
        if (isOurs && conditions.some(({ etag, isNot }) => etag !== undefined && !isNot)) this.#isMatched = true;
      }
      if (holding.length === 0) throw new Answer(412, "no condition of the If header holds");
    }
    const match = headers.get("if-match");
    if (match !== null) {
      const stat = await this.#lookUp(this.#path);
      if (stat === undefined || !matchesEtag(match, etagOf(stat)))
        throw new Answer(412, "If-Match: the resource has another ETag");
      this.#isMatched = true;
    } else if (isLater(await this.#lookUp(this.#path), headers.get("if-unmodified-since")))
      throw new Answer(412, "it was changed since the time of If-Unmodified-Since");
    const none = headers.get("if-none-match");
    if (none !== null && !["GET", "HEAD"].includes(this.#request.method)) {
      const stat = await this.#lookUp(this.#path);
      if (stat !== undefined && matchesEtag(none, etagOf(stat)))
        throw new Answer(412, "If-None-Match: the resource has one of the ETags");
    }
  }

  async #holds({ resource, conditions }: ConditionList): Promise<boolean> {
    const path = resource === undefined ? this.#path : await this.#tagged(resource);
    // Of what is not of this tree nothing holds.
    if (path === undefined) return false;
    const locks = await this.#locks.covering(path);
    const stat = await this.#lookUp(path);
    return conditions.every(({ isNot, token, etag }) => {
      const isSo =
        token !== undefined
          ? locks.some((lock) => lock.token === token)
          : stat !== undefined && etag !== undefined && !isCollection(stat) && matchesEtag(etag, etagOf(stat));
      return isSo !== isNot;
    });
  }

  /** The path of a resource that a header names, if it is one of this tree. */
  async #tagged(resource: string): Promise<string | undefined> {
    if (!URL.canParse(resource, this.#request.url)) return undefined;
    const { pathname, href } = new URL(resource, this.#request.url);
    const isOurs = pathname === this.#prefix || pathname.startsWith(`${this.#prefix}/`);
    return isOurs ? this.#canonical(this.#pathOf(href), true) : undefined;
  }

  /**
   * Refuses a change where others have a lock.
   * @param isMember a name comes or goes, which is a change of the collection too
   */
  async #assertFree(path: string, isMember: boolean, withBelow = false): Promise<void> {
    const parent = parentOf(path);
    const locks = [
      ...(await this.#locks.covering(path, withBelow)),
      ...(isMember ? (await this.#locks.covering(parent)).filter(({ root }) => root === parent) : []),
    ];
    // Of shared locks, one that the client has is enough.
    const roots = new Set(locks.map(({ root }) => root));
    for (const root of roots)
      if (!locks.some((lock) => lock.root === root && this.#knows(lock))) throw new Answer(423, `${root} is locked`);
  }

  /** Whether a lock is the client's own, and it has said so. */
  #knows({ token, pid }: DavLock): boolean {
    return pid === this.#os.pid && this.#tokens.has(token);
  }

  async #assertParent(path: string): Promise<void> {
    const parent = await this.#lookUp(parentOf(path));
    if (parent === undefined || !isCollection(parent))
      throw new Answer(409, "the collection that it is in is not there");
  }

  /** A path without links on the way, so that whatever is compared, or locked, has one name. */
  async #canonical(path: string, follow: boolean): Promise<string> {
    if (path === "/") return path;
    const found = follow ? await this.#lookUp(path, false) : undefined;
    if (found !== undefined) return found.path;
    const parent = await this.#lookUp(parentOf(path), false);
    return parent === undefined ? path : join(parent.path, path.slice(path.lastIndexOf("/") + 1));
  }

  async #need(path: string): Promise<FileStat> {
    return { ...(await this.#os.fs.stat(path)), path } as FileStat;
  }

  /** @param noFollow the name itself, which may be a link that leads nowhere */
  async #lookUp(path: string, asAsked = true, noFollow = false): Promise<FileStat | undefined> {
    try {
      const found = await this.#os.fs.stat(path, { noFollow });
      return asAsked ? { ...found, path: path as FileStat["path"] } : found;
    } catch (error) {
      if (isKernelError(error) && (error.code === "ENOENT" || error.code === "ENOTDIR" || error.code === "ELOOP"))
        return undefined;
      throw error;
    }
  }

  /** What lies at a path, as far as the client may know. */
  async #visible(path: string): Promise<FileStat | undefined> {
    try {
      return await this.#lookUp(path);
    } catch (error) {
      // A link may lead to what it may not: that is no reason to tell it nothing of the others.
      if (isKernelError(error) && error.code === "EACCES") return undefined;
      throw error;
    }
  }

  async *#entries(path: string): AsyncGenerator<DirEntry, void, undefined> {
    for (let after: string | undefined; ;) {
      const page = await this.#os.fs.readdir(path, { limit: PAGE, ...(after === undefined ? {} : { after }) });
      yield* page;
      after = page.at(-1)?.name;
      if (after === undefined || page.length < PAGE) return;
    }
  }

  async #xml(): ReturnType<typeof parseBody> {
    return parseBody(await this.#text());
  }

  async #text(): Promise<string> {
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const bytes of chunksOf(this.#request.body)) {
      size += bytes.length;
      if (size > DOCUMENT_MAX) throw new Answer(413, `a description has at most ${DOCUMENT_MAX} bytes`);
      parts.push(bytes);
    }
    return Buffer.concat(parts).toString();
  }

  #pathOf(url: string): string {
    const { pathname } = new URL(url);
    if (pathname !== this.#prefix && !pathname.startsWith(`${this.#prefix}/`))
      throw new Answer(404, `the tree is below ${this.#prefix}`);
    if (/%2f/i.test(pathname)) throw new Answer(400, "a name holds no slash");
    let path: string;
    try {
      path = pathname.slice(this.#prefix.length).split("/").map(decodeURIComponent).join("/");
    } catch {
      throw new Answer(400, "the address is not well encoded");
    }
    if (path.includes("\0") || path.split("/").some((name) => name === ".." || name === "."))
      throw new Answer(400, "the URL is no valid path");
    return path.replaceAll(/\/+/g, "/").replace(/\/$/, "") || "/";
  }

  /** The address of a path. */
  readonly #href = (path: string, isFolder = false): string => {
    const encoded = `${this.#prefix}${path.split("/").map(encodeURIComponent).join("/")}`;
    return isFolder && !encoded.endsWith("/") ? `${encoded}/` : encoded;
  };
}

interface Wanted {
  /** Names that are asked for; all unless given. */
  readonly names?: readonly PropName[];
  readonly onlyNames: boolean;
}

async function parseBody(text: string): Promise<ReturnType<typeof parseXml>> {
  try {
    return parseXml(text);
  } catch (error) {
    throw new Answer(400, `the body is not well-formed: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function wantedOf(root: ReturnType<typeof parseXml>): Wanted {
  if (root === undefined) return { onlyNames: false };
  if (!isDav(root, "propfind")) throw new Answer(400, "a propfind is wanted");
  if (childNamed(root, "propname") !== undefined) return { onlyNames: true };
  const prop = childNamed(root, "prop");
  return prop === undefined ? { onlyNames: false } : { names: childrenOf(prop).map(nameOf), onlyNames: false };
}

const propstat = (props: string, status: string): string =>
  dav("propstat", dav("prop", props) + dav("status", `HTTP/1.1 ${status}`));

const multistatus = (answers: string): Response =>
  new Response(document("multistatus", answers), {
    status: 207,
    headers: { "content-type": "application/xml; charset=utf-8" },
  });
