#!/bin/sh
# Trains the embedded model from the data sets, start to end. A round takes 20 to 60 minutes on two CPU cores.
#
#   training/recipes/default.sh DATA OUTPUT [further options of ovs-train, for every round]
#
# DATA holds the folders named below (docs/guides/data.md); those that are absent are left out. After a stop, run the
# same command again: finished rounds are skipped, an interrupted one continues from its saved state.
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
        ovs-train -o "$folder" --recipe dense --until "$until" "$@"
    fi
    touch "$folder/finished"
}

# taught ROUND STEPS SETS START OPTIONS…: as `train`, from the weights in START, with regions also called by their other
# names, distillation from the ImageNet teacher, and labels of START where the data have none.
taught() {
    round=$1
    steps=$2
    sets=$3
    start=$4/model.pt
    shift 4
    train "$round" "$steps" "$sets" --start "$start" --steps "$steps" --validate-every $((steps / 2)) --frozen-stages 1 \
        --names draw --teacher imagenet --pseudo "$start" --pseudo-share 0.4 "$@"
}

# mean FIRST SECOND OUTPUT: the mean of the weights of two rounds.
mean() {
    mkdir -p "$3"
    "$(dirname "$0")/../../scripts/average-weights" "$1/model.pt" "$2/model.pt" "$3/model.pt"
}

# 1. From ImageNet weights of the backbone.
train round-1 2400 "voc:0.28 coco_things:0.22 coco_panoptic:0.17 msrc:0.08 camvid:0.09 labelmefacade:0.06
clothing_ccp:0.05 people_humanseg:0.05" --steps 4000 "$@"
# 2. Rare classes, small objects, crowded scenes: balanced crops, copy-paste, mosaics.
train round-2 1700 "voc:0.24 coco_things:0.20 coco_panoptic:0.15 msrc:0.18 camvid:0.11 labelmefacade:0.05
clothing_ccp:0.04 people_humanseg:0.03" --start "$output/round-1/model.pt" --steps 3400 --lr 7e-4 \
    --validate-every 850 --balance 0.5 --paste 0.25 --mosaic 0.1 "$@"
# 3. With more streets and everyday scenes.
train round-3 1900 "voc:0.20 coco_things:0.17 coco_panoptic:0.14 msrc:0.21 camvid:0.19 labelmefacade:0.04
clothing_ccp:0.03 people_humanseg:0.02" --start "$output/round-2/model.pt" --steps 1900 --lr 5e-4 \
    --validate-every 950 --balance 0.4 --paste 0.2 --mosaic 0.05 "$@"
# 4. All stages of the backbone but the first, larger crops.
train round-4 2600 "voc:0.21 coco_things:0.19 coco_panoptic:0.15 msrc:0.18 camvid:0.17 labelmefacade:0.04
clothing_ccp:0.03 people_humanseg:0.03" --start "$output/round-3/model.pt" --steps 3600 --lr 6e-4 --crop 256 \
    --frozen-stages 1 --validate-every 1800 --balance 0.5 --paste 0.25 --mosaic 0.1 "$@"
# 5. The same to the end of a schedule.
train round-5 2300 "voc:0.21 coco_things:0.19 coco_panoptic:0.15 msrc:0.19 camvid:0.16 labelmefacade:0.04
clothing_ccp:0.03 people_humanseg:0.03" --start "$output/round-4/model.pt" --steps 2300 --lr 5e-4 --crop 256 \
    --frozen-stages 1 --validate-every 1150 --balance 0.5 --paste 0.25 --mosaic 0.1 "$@"
# 6. With text diversification, distillation and self-training.
taught round-6 3200 "voc:0.26 coco_things:0.16 coco_panoptic:0.16 msrc:0.25 camvid:0.10 labelmefacade:0.03
clothing_ccp:0.02 people_humanseg:0.02" "$output/round-5" --lr 5e-4 --crop 256 --balance 0.5 --paste 0.25 --mosaic 0.1 \
    --drawn 0.3 --distill-region 0.3 "$@"
# 7. From the mean of the weights of the last two rounds: more animals, things and people.
mean "$output/round-5" "$output/round-6" "$output/mean-6"
taught round-7 3400 "voc:0.23 coco_things:0.24 coco_panoptic:0.12 msrc:0.28 camvid:0.06 labelmefacade:0.02
clothing_ccp:0.02 people_humanseg:0.03" "$output/mean-6" --lr 4e-4 --crop 256 --balance 0.5 --paste 0.25 --mosaic 0.1 \
    --drawn 0.2 --distill-region 0.2 "$@"
mean "$output/mean-6" "$output/round-7" "$output/mean-7"
# 8. Crops as large as the view at deployment.
taught round-8 4000 "voc:0.20 coco_things:0.21 coco_panoptic:0.09 msrc:0.34 camvid:0.06 labelmefacade:0.02
clothing_ccp:0.03 people_humanseg:0.05" "$output/mean-7" --lr 4e-4 --crop 384 --batch 4 --balance 0.5 --paste 0.25 \
    --mosaic 0.05 --drawn 0.2 --distill-region 0.2 "$@"
mean "$output/mean-7" "$output/round-8" "$output/mean-8"
# 9. Crops of 256 again, with more people. The result is the mean of what it gives and of the weights before round 8: with
# those of round 8 in the mean, more labels change where numbers are rounded (FP16).
taught round-9 2800 "voc:0.17 coco_things:0.28 coco_panoptic:0.10 msrc:0.28 camvid:0.04 labelmefacade:0.02
clothing_ccp:0.04 people_humanseg:0.07" "$output/mean-8" --lr 3.5e-4 --crop 256 --balance 0.4 --paste 0.3 --mosaic 0.1 \
    --drawn 0.2 --distill-region 0.2 "$@"
mean "$output/mean-7" "$output/round-9" "$output"
