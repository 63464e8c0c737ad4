// Manifests on disk: reading, compiling, and the program of one.

import { closeSync, openSync, readSync } from "node:fs";
import { relative, resolve } from "node:path";
import {
  type Compilation,
  type CompilerHost,
  MANIFEST_LIMITS,
  type PlanDocument,
  compileManifest,
  fileHost,
  formatDiagnostic,
  secretValues,
  suggest,
} from "@ergos/compiler";
import { KernelError, type ProgramSource, describe } from "@ergos/kernel";
import { HOST_TOOLS } from "./host-tools.ts";

/**
 * Compiles a manifest file.
 * @throws {ENOENT} {EISDIR} {EACCES} {EIO} it cannot be read · {E2BIG} {EINVAL} it is no manifest, whatever it says
 */
export function compileFile(
  file: string,
  {
    lint = false,
    environment = process.env,
    onVariable,
  }: { readonly lint?: boolean } & Partial<Pick<CompilerHost, "environment" | "onVariable">> = {},
): Compilation {
  const host = {
    ...fileHost(file, environment),
    tools: HOST_TOOLS.map(({ name }) => name),
    ...(onVariable === undefined ? {} : { onVariable }),
  };
  return compileManifest(readManifest(file), { file: shownPath(file), host, lint });
}

/** The path as a person would type it: relative where that is shorter. */
function shownPath(file: string): string {
  const near = relative(process.cwd(), resolve(file));
  return near.startsWith("..") || near === "" ? resolve(file) : near;
}

/** Bytes of a manifest file that are read at most: the compiler says what is too much of them. */
const READ_MAX = 2 * MANIFEST_LIMITS.fileBytesMax;

function readManifest(file: string): string {
  const bytes = readBounded(file);
  if (bytes.length > READ_MAX)
    throw new KernelError("E2BIG", `${file} has more than ${READ_MAX} bytes, which no manifest has`, { path: file });
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new KernelError("EINVAL", `${file} cannot be read: it is no text in UTF-8`, { path: file, cause });
  }
}

/** A file, or what comes out of a pipe, a little further than it may go. */
function readBounded(file: string): Buffer {
  let fd: number | undefined;
  try {
    fd = openSync(file, "r");
    const parts: Buffer[] = [];
    for (let size = 0; size <= READ_MAX;) {
      const part = Buffer.allocUnsafe(64 * 1024);
      const count = readSync(fd, part);
      if (count === 0) break;
      parts.push(part.subarray(0, count));
      size += count;
    }
    return Buffer.concat(parts);
  } catch (cause) {
    const { code } = (cause ?? {}) as { readonly code?: unknown };
    const known = (["ENOENT", "EISDIR", "EACCES", "ENOTDIR"] as const).find((one) => one === code) ?? "EIO";
    throw new KernelError(known, `${file} cannot be read: ${describe(cause)}`, { path: file, cause });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Variables as an earlier reading found them. */
const recordedOf = ({ environment = {} }: ProgramSource): Readonly<Record<string, string | undefined>> =>
  Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, value ?? undefined]));

/** A pipeline, and where it is with the variables that it has read: the same whoever loads it again. */
export interface FoundPipeline {
  readonly document: PlanDocument;
  readonly source: ProgramSource;
}

/**
 * The pipeline of a manifest that a source names: the only one, or that of `export`.
 * @throws {ENOEXEC} the manifest has errors, each on a line of the message · {EINVAL} it has no such pipeline, or several
 */
export function pipelineOf(source: ProgramSource): FoundPipeline {
  const file = source.module ?? "";
  const variables: Record<string, string | null> = {};
  const secrets = secretValues(process.env);
  const { plans, diagnostics, hasErrors } = compileFile(file, {
    environment: { ...process.env, ...recordedOf(source) },
    onVariable: (name, value) => {
      // A value that holds a secret is read anew, as secrets are: what is recorded holds none.
      if (!secrets.some((secret) => value?.includes(secret) === true)) variables[name] = value ?? null;
    },
  });
  if (hasErrors) {
    const errors = diagnostics.filter(({ severity }) => severity === "error");
    throw new KernelError(
      "ENOEXEC",
      `${shownPath(file)} has ${errors.length} error${errors.length === 1 ? "" : "s"}\n${errors.map(formatDiagnostic).join("\n")}`,
      { path: file },
    );
  }
  const names = plans.map(({ name }) => name);
  const chosen =
    source.export === undefined && plans.length === 1 ? plans[0] : plans.find(({ name }) => name === source.export);
  if (chosen !== undefined)
    return {
      document: chosen,
      source: Object.keys(variables).length === 0 ? source : { ...source, environment: variables },
    };
  const why =
    source.export === undefined
      ? `has ${plans.length} pipelines (${names.join(", ")}); choose one with --pipeline`
      : `has no pipeline ${source.export}; ${suggest(source.export, names) ?? ""}`;
  throw new KernelError("EINVAL", `${shownPath(file)} ${why}`, { path: file });
}
