#!/bin/sh
# transformers renames the modules of a network between minor versions: a state_dict that torch saved with 5.8.1 does not
# load in 5.9.0, though a folder that save_pretrained wrote does.
#
# Seen with transformers 5.8.1 and 5.9.0, torch 2.13.0, Python 3.11. Two environments would do; here the two versions of
# transformers stand in folders of their own beside one torch.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 transformers==5.8.1 tokenizers==0.22.2 huggingface_hub==1.33.0
"$python" -m pip install --quiet --no-deps --target "$work/later" transformers==5.9.0
cat > "$work/save.py" <<'PY'
import sys
import torch, transformers
from transformers import SegformerConfig, SegformerForSemanticSegmentation
torch.manual_seed(0)
sizes = dict(hidden_sizes=[8, 16, 16, 16], num_attention_heads=[1, 2, 2, 2], decoder_hidden_size=16, depths=[1, 1, 1, 1])
network = SegformerForSemanticSegmentation(SegformerConfig(**sizes)).eval()
print("transformers", transformers.__version__, "torch", torch.__version__, "saves", next(iter(network.state_dict())))
torch.save(network.state_dict(), sys.argv[1] + "/state.pt")
network.save_pretrained(sys.argv[1] + "/folder")
PY
cat > "$work/load.py" <<'PY'
import sys
import torch, transformers
from transformers import SegformerForSemanticSegmentation
network = SegformerForSemanticSegmentation.from_pretrained(sys.argv[1] + "/folder")
state = torch.load(sys.argv[1] + "/state.pt", weights_only=True)
own = network.state_dict()
print("transformers", transformers.__version__, "has", next(iter(own)))
common = len(own.keys() & state.keys())
print(f"of {len(own)} tensors, {common} have the name that they had in 5.8.1")
stem = next(value for name, value in own.items() if name.endswith("proj.weight") and value.ndim == 4)
kept = torch.equal(stem, next(iter(state.values())))
print("the folder of save_pretrained loads with its weights:", kept)
try:
    network.load_state_dict(state)
    refused = False
except RuntimeError:
    refused = True
print("load_state_dict refuses the state_dict of 5.8.1:", refused)
sys.exit(0 if refused and kept and common < len(own) / 2 else 1)
PY
"$python" "$work/save.py" "$work"
PYTHONPATH="$work/later" "$python" "$work/load.py" "$work"
