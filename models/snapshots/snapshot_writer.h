// An edited model as a snapshot folder, which diffusers, transformers and LoadBackbone read.
#pragma once

#include <filesystem>

#include "models/snapshots/backbone.h"

namespace excise {

// Writes FOLDER/{tokenizer,text_encoder,unet,vae,scheduler} and model_index.json: configs and
// tokenizer as they are in edited.folder, weights in float32 under Hugging Face names. A text
// encoder that holds a whole CLIPModel stays one, with its vision tower. Throws Error when FOLDER
// exists and is not empty, when edited.folder has no such files, or when the disk is full;
// model_index.json comes last, so that a folder without it is not whole.
void SaveSnapshot(const Backbone& edited, const std::filesystem::path& folder);

}  // namespace excise
