# Read by ctest. Tests run more threads and ranks than there are cores: who waits must sleep, for spinning it holds the
# core of whom it waits for, and tests take many times as long.
set(ENV{OMP_WAIT_POLICY} passive)
set(ENV{MPIR_CVAR_CH4_PROGRESS_THROTTLE} 1)  # MPICH's; Open MPI yields by itself
