# SentencePiece::SentencePiece, and with COMPONENTS Trainer what trains vocabularies, SentencePiece::Trainer. Not
# through pkg-config: its file demands protobuf's headers, which a user of the library does not need.
find_path(SentencePiece_INCLUDE_DIR sentencepiece_processor.h)
find_library(SentencePiece_LIBRARY sentencepiece)
find_library(SentencePiece_TRAINER_LIBRARY sentencepiece_train)
mark_as_advanced(SentencePiece_INCLUDE_DIR SentencePiece_LIBRARY SentencePiece_TRAINER_LIBRARY)
if(SentencePiece_TRAINER_LIBRARY)
  set(SentencePiece_Trainer_FOUND TRUE)
endif()
include(FindPackageHandleStandardArgs)
find_package(absl CONFIG QUIET)  # whose Status its calls return, where it does not bring its own
find_package_handle_standard_args(SentencePiece
  REQUIRED_VARS SentencePiece_LIBRARY SentencePiece_INCLUDE_DIR HANDLE_COMPONENTS)
if(SentencePiece_FOUND AND NOT TARGET SentencePiece::SentencePiece)
  add_library(SentencePiece::SentencePiece UNKNOWN IMPORTED)
  set_target_properties(SentencePiece::SentencePiece PROPERTIES
    IMPORTED_LOCATION "${SentencePiece_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${SentencePiece_INCLUDE_DIR}")
  if(absl_FOUND)
    set_property(TARGET SentencePiece::SentencePiece PROPERTY INTERFACE_LINK_LIBRARIES absl::status)
  endif()
endif()
if(SentencePiece_Trainer_FOUND AND NOT TARGET SentencePiece::Trainer)
  add_library(SentencePiece::Trainer UNKNOWN IMPORTED)
  set_target_properties(SentencePiece::Trainer PROPERTIES
    IMPORTED_LOCATION "${SentencePiece_TRAINER_LIBRARY}" INTERFACE_LINK_LIBRARIES SentencePiece::SentencePiece)
endif()
