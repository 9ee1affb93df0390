// What the program that started this process says of it, before MPI is started or where MPI does not know.
#pragma once

namespace grist::cli {

/// This process among those that were started together. Alone where no launcher says otherwise.
struct Launcher {
  int rank = 0;
  int size = 1;
};

/// By the environment: PMI (MPICH's mpirun, Cray PALS, srun with PMI), Open MPI's and MVAPICH's mpirun, flux run, srun.
/// The number of tasks of a Slurm job says nothing: a batch script and its own mpirun see it too.
Launcher launcher();

}  // namespace grist::cli
