// Ctrl-C: the handler sets a flag, long loops call check_interrupt() between units of work.
#pragma once

namespace vi {

void install_interrupt_handlers();  // SIGINT, SIGTERM; a second signal ends the process at once
void check_interrupt();             // throws Interrupted once a signal has arrived
bool interrupt_requested() noexcept;

}  // namespace vi
