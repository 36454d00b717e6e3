// The clock that calibration reads.
#pragma once

namespace palimpsest {

// Seconds. The wall clock's; with PALIMPSEST_CLOCK=processor in the environment the process's processor time, divided
// by the threads of the device, for comparisons on a machine that others keep busy.
double clock_seconds(int threads);

}  // namespace palimpsest
