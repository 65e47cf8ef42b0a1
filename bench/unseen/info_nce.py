# CLIP-like contrastive loss: two encoders, unit vectors, a learned temperature, cross-entropy both ways.
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(7)
N = 10
image_feats, text_feats = torch.randn(N, 12), torch.randn(N, 9)
image_proj = nn.Linear(12, 8, bias=False)
text_proj = nn.Linear(9, 8, bias=False)
log_temp = nn.Parameter(torch.tensor(1.0))

image_emb = F.normalize(image_proj(image_feats), dim=-1)
text_emb = F.normalize(text_proj(text_feats), dim=-1)
logits = log_temp.exp() * image_emb @ text_emb.t()
labels = torch.arange(N)
loss_i = F.cross_entropy(logits, labels)
loss_t = F.cross_entropy(logits.t(), labels)
loss = (loss_i + loss_t) / 2
