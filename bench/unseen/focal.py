# Focal loss (Lin et al. 2017) for dense detection, with label smoothing by hand.
import torch

torch.manual_seed(13)
n, d, classes = 30, 6, 4
alpha, gamma, smooth = 0.25, 2.0, 0.1
feats = torch.randn(n, d)
gt = torch.randint(classes, (n,))
weight = (torch.randn(d, classes) * 0.2).requires_grad_()
bias = torch.full((classes,), -2.0, requires_grad=True)

scores = feats @ weight + bias
p = torch.sigmoid(scores)
onehot = torch.zeros(n, classes)
onehot[torch.arange(n), gt] = 1
soft = onehot * (1 - smooth) + smooth / classes
ce = -(soft * torch.log(p + 1e-8) + (1 - soft) * torch.log(1 - p + 1e-8))
p_t = p * onehot + (1 - p) * (1 - onehot)
alpha_t = alpha * onehot + (1 - alpha) * (1 - onehot)
focal = alpha_t * (1 - p_t) ** gamma * ce
loss = focal.sum() / n
