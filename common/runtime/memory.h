// How the process takes memory from the system.
#pragma once

namespace sheaf {

// Keeps freed blocks instead of giving them back at once: buffers of a batch are taken and freed thousands of times a
// second, and each return costs a page fault for every 4 KiB at the next use. (Pulling 10,000 rows of 16 floats took 1
// ms with the C library's defaults and 0.06 ms so.) Call first thing in main.
void KeepFreedMemory();
// What was kept so far goes back. For processes whose memory is limited, now and then: it takes milliseconds.
void GiveBackFreedMemory();

}  // namespace sheaf
