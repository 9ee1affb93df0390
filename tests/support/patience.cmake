# Read by ctest. Tests run more threads and ranks than there are cores: who waits must soon sleep, for spinning it holds
# the core of whom it waits for, and tests take many times as long. Sleeping at once is as bad where all have a core.
set(ENV{GOMP_SPINCOUNT} 500)
set(ENV{MPIR_CVAR_CH4_PROGRESS_THROTTLE} 1)  # MPICH's; Open MPI yields by itself
