// The tools that each host has.

import type { Os, Tool } from "@ergos/kernel";
import { FILE_TOOLS, PROCESS_TOOLS } from "@ergos/services";
import { BASH_TOOL } from "@ergos/services/faces/bash-tool";

export const HOST_TOOLS: readonly Tool<Os>[] = [...FILE_TOOLS, BASH_TOOL, ...PROCESS_TOOLS];
