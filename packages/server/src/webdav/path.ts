// Paths of a tree, as addresses have them.

import type { FileStat } from "@ergos/kernel";

export const parentOf = (path: string): string => path.slice(0, Math.max(1, path.lastIndexOf("/")));
export const join = (path: string, name: string): string => `${path === "/" ? "" : path}/${name}`;
export const isCollection = ({ type }: Pick<FileStat, "type">): boolean => type === "directory" || type === "mount";
