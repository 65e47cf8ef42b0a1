# A stack of WaveNet blocks: dilated causal convolutions, gated, with residual and skip connections.
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(2)
B, C, T = 4, 8, 32


class Block(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.pad = dilation
        self.filter = nn.Conv1d(channels, channels, 2, dilation=dilation)
        self.gate = nn.Conv1d(channels, channels, 2, dilation=dilation)
        self.res = nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        padded = F.pad(x, (self.pad, 0))
        z = torch.tanh(self.filter(padded)) * torch.sigmoid(self.gate(padded))
        return x + self.res(z), self.skip(z)


blocks = nn.ModuleList([Block(C, 2**i) for i in range(3)])
head = nn.Conv1d(C, 1, 1)

x = torch.randn(B, C, T)
y = torch.randn(B, 1, T)

skips = 0
for block in blocks:
    x, skip = block(x)
    skips = skips + skip
out = head(F.relu(skips))
loss = F.mse_loss(out, y)
