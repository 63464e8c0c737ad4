// What a process of the machine runs that works for a host: bundled beside the command line.

import { runChild } from "@ergos/sdk/child";

await runChild();
