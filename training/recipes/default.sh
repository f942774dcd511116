#!/bin/sh
# Trains the embedded model from the data sets, start to end, in some three and a half hours on two CPU cores that compute
# in BF16 (elsewhere add `--precision fp32`). models/MODEL_CARD.md has its figures.
#
#   training/recipes/default.sh DATA OUTPUT [further options of ovs-train, for every round]
#
# DATA holds the folders named below (docs/guides/data.md); those that are absent are left out. After a stop, run the
# same command again: finished rounds are skipped, an interrupted one continues from its saved state. To train a round
# again, remove its folder and those of all later rounds.
# The result: ovs-export OUTPUT/model.pt -o mini.ovs
set -eu

[ $# -ge 2 ] || { echo "usage: $0 DATA OUTPUT [options of ovs-train]" >&2; exit 2; }
data=$1
output=$2
shift 2

# train ROUND STEP SETS OPTIONS…: one round up to STEP, in OUTPUT/ROUND. SETS: name and weight of each data set; the
# weight says how often photos are drawn from it.
train() {
    folder=$output/$1
    until=$2
    sets=$3
    shift 3
    if [ -f "$folder/finished" ]; then
        echo "$folder is finished" >&2
        return
    fi
    if [ -f "$folder/training.pt" ]; then
        ovs-train -o "$folder" --resume --until "$until"
    else
        for entry in $sets; do
            if [ -d "$data/${entry%:*}" ]; then set -- --data "$data/$entry" "$@"; fi
        done
        ovs-train -o "$folder" --recipe dense --precision bf16 --workers 0 --until "$until" "$@"
    fi
    touch "$folder/finished"
}

# self_train ROUND STEPS SETS START OPTIONS…: a round that goes on from START, with its labels where the data have none. As
# in round 2, all stages of the backbone but the first are trained, regions are also called by their other names, and there
# is distillation from the ImageNet teacher.
self_train() {
    round=$1
    steps=$2
    photos=$3
    start=$output/$4
    shift 4
    train "$round" "$steps" "$photos" --start "$start" --steps "$steps" --frozen-stages 1 --names draw --teacher imagenet \
        --drawn 0.2 --distill-region 0.2 --pseudo "$start" --pseudo-share 0.4 "$@"
}

# mean FIRST SECOND RESULT: the mean of the weights of two models, unless it is there already.
mean() {
    for part in "$1" "$2"; do
        [ -f "$output/$part" ] || { echo "error: $output/$part is missing; train its round again" >&2; exit 2; }
    done
    if [ -f "$output/$3" ] && [ -z "$(find "$output/$1" "$output/$2" -newer "$output/$3")" ]; then return; fi
    "$(dirname "$0")/../../scripts/average-weights" "$output/$1" "$output/$2" "$output/$3"
}

# 1. From ImageNet weights of the backbone, three stages of which stay as they are.
train round-1 2000 "voc:0.25 coco_things:0.22 coco_panoptic:0.16 msrc:0.16 camvid:0.10 labelmefacade:0.04
clothing_ccp:0.03 people_humanseg:0.04" --steps 3600 --validate-every 2000 --balance 0.3 --paste 0.1 --mosaic 0.05 "$@"
# 2. All stages but the first, larger crops; rare classes, small objects and crowded scenes; regions also called by their
# other names, and distillation from the ImageNet teacher.
train round-2 6500 "voc:0.23 coco_things:0.20 coco_panoptic:0.15 msrc:0.22 camvid:0.12 labelmefacade:0.03
clothing_ccp:0.02 people_humanseg:0.03" --start "$output/round-1/model.pt" --steps 6500 --lr 6e-4 --crop 256 \
    --frozen-stages 1 --validate-every 3250 --balance 0.5 --paste 0.25 --mosaic 0.1 --names draw --teacher imagenet \
    --drawn 0.3 --distill-region 0.3 "$@"
# 3. With labels of the second round, and more things and people.
self_train round-3 4600 "voc:0.20 coco_things:0.24 coco_panoptic:0.12 msrc:0.27 camvid:0.06 labelmefacade:0.02
clothing_ccp:0.03 people_humanseg:0.06" round-2/model.pt --lr 4.5e-4 --crop 256 \
    --validate-every 4600 --balance 0.5 --paste 0.25 --mosaic 0.1 "$@"
mean round-2/model.pt round-3/model.pt mean-3.pt
# 4. From the mean of the weights of both; more people.
self_train round-4 5500 "voc:0.18 coco_things:0.26 coco_panoptic:0.10 msrc:0.28 camvid:0.04 labelmefacade:0.02
clothing_ccp:0.03 people_humanseg:0.09" mean-3.pt --lr 3.5e-4 --crop 256 \
    --validate-every 2750 --balance 0.4 --paste 0.3 --mosaic 0.1 "$@"
mean mean-3.pt round-4/model.pt mean-4.pt
# 5. Crops as large as the network's input: whole scenes.
self_train round-5 3200 "voc:0.20 coco_things:0.21 coco_panoptic:0.08 msrc:0.34 camvid:0.06 labelmefacade:0.02
clothing_ccp:0.03 people_humanseg:0.06" mean-4.pt --lr 3e-4 --crop 384 --batch 4 \
    --validate-every 3200 --balance 0.4 --paste 0.2 --mosaic 0.1 "$@"
mean mean-4.pt round-5/model.pt mean-5.pt
# 6. Whole photos as they are: nothing pasted, no mosaics.
self_train round-6 4800 "voc:0.20 coco_things:0.26 coco_panoptic:0.10 msrc:0.30 camvid:0.05 labelmefacade:0.02
clothing_ccp:0.03 people_humanseg:0.04" mean-5.pt --lr 3e-4 --crop 384 --batch 4 \
    --validate-every 2400 --balance 0.4 --paste 0 --mosaic 0 "$@"
mean mean-5.pt round-6/model.pt mean-6.pt
# The result: a quarter of the last round's weights, three quarters of those it started from.
mean mean-5.pt mean-6.pt model.pt
