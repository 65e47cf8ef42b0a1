# A squeeze-and-excitation block (Hu et al. 2018) in a small convolutional net.
import torch
import torch.nn.functional as F

torch.manual_seed(4)
images = torch.randn(6, 3, 12, 12)
targets = torch.randint(0, 5, (6,))
k1 = (0.2 * torch.randn(16, 3, 3, 3)).requires_grad_()
k2 = (0.1 * torch.randn(16, 16, 3, 3)).requires_grad_()
squeeze = (0.3 * torch.randn(4, 16)).requires_grad_()
excite = (0.3 * torch.randn(16, 4)).requires_grad_()
fc = (0.1 * torch.randn(5, 16)).requires_grad_()

feat = F.relu(F.conv2d(images, k1, padding=1))
feat = F.max_pool2d(feat, 2)
conv = F.conv2d(feat, k2, padding=1)
pooled = conv.mean(dim=(2, 3))
scale = torch.sigmoid(F.linear(F.relu(F.linear(pooled, squeeze)), excite))
scaled = conv * scale[:, :, None, None]
res = F.relu(feat + scaled)
vec = res.mean(dim=(2, 3))
scores = F.linear(vec, fc)
loss = F.cross_entropy(scores, targets)
