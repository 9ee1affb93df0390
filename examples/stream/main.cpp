// A program that owns MPI and Kokkos, and streams a transformer's text from all its ranks.
//   mpirun -n 2 stream MODEL "Once upon a time"
#include <grist/generate/generation.hpp>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: stream MODEL PROMPT\n";
    return 2;
  }
  MPI_Init(&argc, &argv);
  Kokkos::initialize(argc, argv);
  {
    int ranks = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    const grist::ProcessGrid grid(MPI_COMM_WORLD, {.tp = ranks});  // any communicator; it is duplicated

    const auto files = grist::open_model(argv[1]);
    const auto tokenizer = grist::text::load_tokenizer(argv[1]);
    const std::vector<grist::Request> requests = {{.prompt = tokenizer->encode(argv[2], true), .max_new_tokens = 32}};
    const auto limits = grist::limits_for(requests, files.spec.max_positions);
    const auto model = grist::make_model(files, grid, {.limits = limits});

    // Ends where the model does, at one of these tokens, or after 32.
    grist::Generation generation(grist::Exec(), *model, {.tokenizer = tokenizer.get()},
                                 requests);
    for (const grist::TokenEvent& event : generation)
      if (grid.world().rank() == 0) std::cout << event.text << std::flush;
    if (grid.world().rank() == 0) std::cout << '\n';
  }
  Kokkos::finalize();
  MPI_Finalize();
}
